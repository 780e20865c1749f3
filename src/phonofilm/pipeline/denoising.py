"""The two experts as one callable for the sampler: which expert runs at a step, and with which inputs.

Shapes: b clips, c latent channels, f/h/w latent frames, rows, columns, t audio latents.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser, JointOutput, Positions
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_one
from phonofilm.models.video import WanModel
from phonofilm.pipeline.guidance import Evaluation
from phonofilm.pipeline.schedule import Step
from phonofilm.pipeline.types import Latents, Text

ExpertName = Literal["high", "low"]


def expert_for(noise: float, boundary: float, experts: int = 2) -> ExpertName:
    """The expert for a noise level of the picture: the high-noise one from `boundary` up, or where there is no other.

    Both are timesteps (0..1000), or both sigmas (0..1).
    """
    return "high" if noise >= boundary or experts == 1 else "low"


class Engine(Protocol):
    """Who runs the forwards of one step: whatever holds the weights where they are needed.

    Called with the expert that is asked, what all evaluations share, what each has for itself, and the expert that will
    be asked next. Returns one output per conditioning, in order.
    """

    def __call__(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]: ...

    def release(self, expert: ExpertName) -> None:
        """The expert will not be asked again: let go of its weights."""


@dataclass
class Experts:
    """The high- and the low-noise expert around one audio tower and bridge. Without a low one, the high one does it all.

    `release_high`: called once when the low-noise expert takes over, for whoever wants the other's memory back.
    """

    high: WanModel | None
    low: WanModel | None
    audio: WanAudioModel
    bridge: DualTowerConditionalBridge
    release_high: Callable[[], None] | None = None

    def denoiser(self, name: ExpertName) -> JointDenoiser:
        """The expert with what it shares. Raises InputError if it was given up."""
        if name == "low" and self.release_high is not None:
            self.high = None
            self.release_high()
            gc.collect()
            self.release_high = None
        expert = self.high if name == "high" else self.low
        if expert is None:
            raise InputError(
                "the high-noise expert was removed from memory by an earlier call; load the pipeline again"
            )
        return JointDenoiser(expert, self.audio, self.bridge)


@dataclass
class Resident:
    """The engine for weights that are where they compute, or that accelerate's hooks bring there: one forward after the other."""

    experts: Experts

    def __call__(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]:
        denoiser = self.experts.denoiser(expert)
        for module in (denoiser.video, denoiser.audio, denoiser.bridge):
            wake(module)
        return [forward_one(denoiser, inputs, conditioning) for conditioning in conditionings]

    def release(self, expert: ExpertName) -> None:
        """Nothing to do: `experts` holds the weights."""


@dataclass
class ExpertVelocity:
    """What the sampler calls. condition [b,4+c,f,h,w]; text per evaluation, embeddings on `device`.

    `names`: the expert of every step. `bridge_scale` multiplies the bridge in the evaluations that have it. `forwards`
    counts those that were run.
    """

    experts: Experts
    engine: Engine
    names: Sequence[ExpertName]
    geometry: ClipGeometry
    condition: Tensor
    text: dict[Evaluation, tuple[Tensor, Tensor | None]]
    bridge_scale: float = 1.0
    forwards: int = field(default=0, init=False)
    _positions: Positions | None = field(default=None, init=False)

    def __call__(self, step: Step, latents: Latents, evaluations: Sequence[Evaluation]) -> list[Latents]:
        self.forwards += len(evaluations)
        name = self.names[step.index]
        denoiser = self.experts.denoiser(name)
        inputs = StepInputs(
            torch.cat([latents.video, self.condition], dim=1),
            latents.audio,
            torch.tensor(step.video.timestep),
            torch.tensor(step.audio.timestep),
            float(self.geometry.frame_rate),
            self._where(denoiser, latents),
        )
        outputs = self.engine(name, inputs, [self._conditioning(one) for one in evaluations], self._following(step))
        return [Latents(out.video.float(), out.audio.float()) for out in outputs]

    def _conditioning(self, evaluation: Evaluation) -> Conditioning:
        alone = evaluation is Evaluation.NEGATIVE_ALONE
        return Conditioning(*self.text[evaluation], bridge_scale=0.0 if alone else self.bridge_scale)

    def _following(self, step: Step) -> ExpertName:
        """After the last step comes the next clip's first, unless its expert was given up."""
        following = self.names[(step.index + 1) % len(self.names)]
        return "low" if self.experts.high is None else following

    def _where(self, denoiser: JointDenoiser, latents: Latents) -> Positions:
        if self._positions is None:
            frames, rows, columns = (
                size // patch for size, patch in zip(latents.video.shape[2:], denoiser.video.patch_size, strict=True)
            )
            tokens = math.ceil(latents.audio.shape[2] / denoiser.audio.patch_size)
            self._positions = denoiser.positions(
                (frames, rows, columns), tokens, float(self.geometry.frame_rate), latents.video.device
            )
        return self._positions


def model_text(text: Text, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Embeddings and bias for the towers. On the host the padding is folded (equal up to rounding, and most of the text
    attention's work is padding); on a GPU it is kept, because attention kernels without a bias are the faster ones."""
    if device.type == "cpu":
        return text.folded()
    return text.embeds.to(device), None


def wake(module: nn.Module) -> None:
    """Bring an offloaded component to its device: accelerate hooks a module's forward, and the towers run block by block."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
