"""The pipeline's engine for layer streaming: evaluates a sampling step with the experts' layers streamed through the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import UMT5EncoderModel

from phonofilm.models.joint import JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs
from phonofilm.pipeline.denoising import ExpertName
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.component_offload import ComponentOffload
from phonofilm.runtime.layer_groups import Group
from phonofilm.runtime.layer_streaming import LayerStreamer
from phonofilm.runtime.module_streamer import ModuleStreamer
from phonofilm.runtime.ring import SLOTS
from phonofilm.runtime.slabs import HostSlab
from phonofilm.runtime.streamed_loading import denoisers


class LayerEngine:
    """Streams the experts of a pipeline in host memory; the rest of it is on the device only while it works.

    Making one makes it the pipeline's engine. The text encoder is streamed block by block when it is called; the
    autoencoders come to the device when they are called and leave before the next step or prompt.

    Args:
        slots, resident, keep_text: as LayerStreamer takes them.
        slabs: from `load_for_streaming`; None moves the weights into slabs.
    """

    def __init__(
        self,
        pipe: MovaPipeline,
        backend: Backend,
        *,
        slots: int = SLOTS,
        resident: int = 0,
        slabs: Mapping[Group, HostSlab] | None = None,
        keep_text: bool = True,
    ) -> None:
        self._pipe = pipe
        names: list[ExpertName] = [] if pipe.video_dit is None else ["high"]
        names += [] if pipe.video_dit_2 is None else ["low"]
        self._number = {name: number for number, name in enumerate(names)}
        self._streamer = LayerStreamer(
            denoisers(pipe), backend, slots=slots, resident=resident, slabs=slabs, keep_text=keep_text
        )
        self._offloads = [ComponentOffload(module, backend.device) for module in (pipe.video_vae, pipe.audio_vae)]
        self._text = None if pipe.text_encoder is None else self._stream_text(pipe.text_encoder, backend)
        pipe.engine = self

    def __call__(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]:
        """One step's forwards. Raises PhonofilmError when a copy fails."""
        self._offload_components()
        return self._streamer.forward_many(
            inputs, conditionings, expert=self._number[expert], following=self._number[following]
        )

    @property
    def host_bytes(self) -> int:
        """Bytes of host memory that the waiting layers take."""
        return self._streamer.host_bytes

    def release(self, expert: ExpertName) -> None:
        """Release an expert that the pipeline has dropped: the memory of what only it has, on host and device."""
        if expert in self._number:
            self._streamer.release(self._number[expert])

    def weights_changed(self) -> None:
        """The weights in host memory were changed in place (a LoRA, say)."""
        self._streamer.weights_changed()

    def close(self) -> None:
        """Bring every weight back to host memory; the pipeline runs there without an engine."""
        self._streamer.close()
        for component in self._offloads:
            component.remove()
        if self._text is not None:
            self._text.close()
        self._pipe.engine = None

    def _stream_text(self, text_encoder: UMT5EncoderModel, backend: Backend) -> ModuleStreamer:
        stack = text_encoder.encoder
        return ModuleStreamer(stack, stack.block, stack.embed_tokens, backend, before=self._offload_components)

    def _offload_components(self) -> None:
        for component in self._offloads:
            component.offload()
