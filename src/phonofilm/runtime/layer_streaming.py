"""Layer streaming: weights wait in host memory and pass through a few slots on the device, while it computes.

For sampling; gradients do not flow through it. What a slot holds when, is ring.py's; what runs, models.shared_forward's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, KeptText, StepInputs, forward_many
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.layer_groups import (
    Group,
    bytes_before,
    layer_groups,
    parameters_of,
    slab_parameters,
    text_parameters,
)
from phonofilm.runtime.ring import SLOTS, Ring
from phonofilm.runtime.slabs import HostSlab
from phonofilm.runtime.staging import Staging

LayerKey = tuple[int, int]
"""(expert, layer)."""
Fetched = tuple[int, int, bool]
"""(expert, layer, whether with the weights that only texts need)."""


class LayerStreamer:
    """One or two experts, streamed through one ring.

    Making one moves the experts' weights: fused layers into slabs of host memory (an audio tower and bridge that both
    experts have are kept once), what surrounds the layers onto the device. `close` takes the device's share back.
    LoRA that is merged into the weights is streamed with them; after merging between forwards call `weights_changed`.

    Args:
        experts: in host memory; JointDenoisers that share audio tower and bridge.
        slots: layers on the device at once. 2 suffice to copy while computing.
        resident: layers of each expert that stay on the device, spread evenly.
        slabs: of `layer_groups`, where the weights lie in slabs already, in the order of `slab_parameters`; the others are
            moved into new ones. Slabs that are maps of files go through two pieces of pinned memory, and the host waits for
            them: see staging.py.
        keep_text: keep the keys and values of every text on the device, as long as the text's tensor lives and its expert
            is used. Only the first forward with a text then fetches the weights that make them. The numbers are the same.
    """

    def __init__(
        self,
        experts: Sequence[JointDenoiser],
        backend: Backend,
        *,
        slots: int = SLOTS,
        resident: int = 0,
        slabs: Mapping[Group, HostSlab] | None = None,
        keep_text: bool = False,
    ) -> None:
        self._keep_text = keep_text
        self._kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._kept_for: int | None = None
        self._experts: list[JointDenoiser | None] = list(experts)
        self._backend = backend
        self._ring = Ring(slots, backend, self._fetch)
        self._slabs: dict[LayerKey, tuple[HostSlab, ...]] = {}
        self._pinned: list[HostSlab] = []
        self._slots: list[Tensor] = []
        self._staging: Staging | None = None
        made = dict(slabs or {})
        for number, expert in enumerate(experts):
            for index in range(expert.num_layers):
                if index not in spread(resident, expert.num_layers):
                    self._slabs[number, index] = tuple(_slabs_of(expert, index, made))
        text = {id(parameter) for expert in experts for parameter in text_parameters(expert.modules())}
        self._without_text = {slab: bytes_before(slab, text) for slab in self._used()}
        streamed = {parameter for slab in self._used() for parameter in slab.parameters}
        self._on_device = [parameter for parameter in parameters_of(experts) if parameter not in streamed]
        try:
            self._acquire(slots, self._used())
        except (PhonofilmError, RuntimeError):
            self.close()
            raise

    @property
    def host_bytes(self) -> int:
        """Bytes of host memory that the slabs take; those in files take none of their own."""
        return sum(slab.nbytes for slab in self._used() if not slab.on_disk)

    @property
    def streamed_bytes(self) -> tuple[int, ...]:
        """Bytes copied to the device for one forward of each expert, however many conditionings it evaluates."""
        return self._bytes_of_a_forward(whole=True)

    @property
    def streamed_bytes_with_kept_text(self) -> tuple[int, ...]:
        """The same for a forward whose texts' keys and values are kept already."""
        return self._bytes_of_a_forward(whole=False)

    def _bytes_of_a_forward(self, whole: bool) -> tuple[int, ...]:
        return tuple(
            sum(self._size(slab, whole) for (at, _), slabs in self._slabs.items() if at == wanted for slab in slabs)
            for wanted in range(len(self._experts))
        )

    @torch.no_grad()
    def forward_many(
        self,
        inputs: StepInputs,
        conditionings: Sequence[Conditioning],
        *,
        expert: int = 0,
        following: int | None = None,
    ) -> list[JointOutput]:
        """Evaluate `conditionings` with one pass over the weights of `expert`.

        `following`: the expert that will probably run next (by default the same); its first layers are fetched while
        the last ones of this forward compute. A wrong guess costs time, never correctness.

        Raises PhonofilmError when a copy fails; the next call starts anew.
        """
        following = expert if following is None else following
        denoiser = self._experts[expert] if 0 <= expert < len(self._experts) else None
        for number in (expert, following):
            if not 0 <= number < len(self._experts):
                raise InputError(
                    f"expert {number} does not exist; this streamer has {len(self._experts)}, counted from 0"
                )
        if denoiser is None:
            raise InputError(f"expert {expert} was released; make a new streamer to run it again")
        if self._slabs and not self._slots:
            raise InputError("this streamer was closed; make a new one to stream again")
        kept = self._kept_texts(expert, denoiser, conditionings)
        whole = kept is None or not all(_complete(denoiser, text) for text in kept)
        # The same expert finds its texts kept the next time; another one has yet to see them.
        whole_after = not self._keep_text or following != expert
        self._ring.expect(self._order(expert, whole), self._order(following, whole_after))

        @contextmanager
        def weights(index: int) -> Iterator[None]:
            slabs = self._slabs.get((expert, index))
            if slabs is None:
                yield
                return
            with self._ring.use((expert, index, whole)) as slot:
                try:
                    for slab, place in self._places(slabs, slot):
                        slab.bind(place)
                    yield
                finally:
                    for slab in slabs:
                        slab.bind(slab.buffer)

        try:
            return forward_many(denoiser, inputs, conditionings, weights, kept)
        except BaseException:
            self._kept.clear()
            raise

    def weights_changed(self) -> None:
        """Forget what was fetched ahead and what was made of texts: the weights in host memory were changed in place."""
        self._ring.expect(())
        self._kept.clear()

    def release(self, expert: int) -> None:
        """Drop the weights that only this expert has; their memory is free once nobody else holds them.

        It cannot run again. Waits for the device once. Releasing an expert twice does nothing.
        """
        self._ring.expect(())
        self._kept.clear()
        self._backend.synchronize()
        self._experts[expert] = None
        before = self._used()
        for key in [key for key in self._slabs if key[0] == expert]:
            del self._slabs[key]
        for slab in set(before) - set(self._used()):
            del self._without_text[slab]
            if slab in self._pinned:
                self._backend.unpin(slab.buffer)
                self._pinned.remove(slab)
        still_there = set(parameters_of([one for one in self._experts if one is not None]))
        self._on_device = [parameter for parameter in self._on_device if parameter in still_there]

    def close(self) -> None:
        """Bring every weight back to host memory and give up the device's. The experts can be used as before."""
        self._kept.clear()
        self._backend.synchronize()
        for parameter in self._on_device:
            parameter.data = parameter.data.to("cpu")
        for slab in self._pinned:
            self._backend.unpin(slab.buffer)
        self._pinned.clear()
        self._slots.clear()
        if self._staging is not None:
            self._staging.close()
            self._staging = None

    def _acquire(self, slots: int, slabs: Collection[HostSlab]) -> None:
        for parameter in self._on_device:
            parameter.data = parameter.data.to(self._backend.device)
        for slab in slabs:
            if not slab.on_disk:
                self._backend.pin(slab.buffer)
                self._pinned.append(slab)
        on_disk = [slab.nbytes for slab in slabs if slab.on_disk]
        if on_disk:
            self._staging = Staging(self._backend, max(on_disk))
        if self._slabs:
            largest = max(sum(slab.nbytes for slab in parts) for parts in self._slabs.values())
            self._slots = [self._backend.allocate(largest) for _ in range(slots)]

    def _used(self) -> tuple[HostSlab, ...]:
        """Every slab once."""
        return tuple(dict.fromkeys(slab for slabs in self._slabs.values() for slab in slabs))

    def _order(self, expert: int, whole: bool) -> list[Fetched]:
        return [(*key, whole) for key in self._slabs if key[0] == expert]

    def _kept_texts(
        self, expert: int, denoiser: JointDenoiser, conditionings: Sequence[Conditioning]
    ) -> list[KeptText] | None:
        """What is kept of each conditioning's text, for this expert alone: the other one's would take as much room again."""
        if not self._keep_text:
            return None
        if self._kept_for != expert:
            self._kept.clear()
            self._kept_for = expert
        for conditioning in conditionings:
            if conditioning.text not in self._kept:
                self._kept[conditioning.text] = {}
        return [self._kept[conditioning.text] for conditioning in conditionings]

    def _size(self, slab: HostSlab, whole: bool) -> int:
        return slab.nbytes if whole else self._without_text[slab]

    def _fetch(self, fetched: Fetched, slot: int) -> None:
        expert, layer, whole = fetched
        slabs = self._slabs[expert, layer]
        try:
            for slab, place in self._places(slabs, slot):
                size = self._size(slab, whole)
                source, place = slab.buffer[:size], place[:size]
                if slab.on_disk and self._staging is not None:
                    self._staging.copy(source, place)
                else:
                    self._backend.copy(source, place)
        except (RuntimeError, OSError) as error:
            nbytes = sum(self._size(slab, whole) for slab in slabs)
            raise PhonofilmError(
                f"copying layer {layer} of expert {expert} ({nbytes / 1e6:.0f} MB) to "
                f"{self._backend.device} failed: {error}"
            ) from error

    def _places(self, slabs: Sequence[HostSlab], slot: int) -> Iterator[tuple[HostSlab, Tensor]]:
        """Each slab with its part of the slot, one after the other; slab sizes keep them aligned."""
        start = 0
        for slab in slabs:
            yield slab, self._slots[slot][start : start + slab.nbytes]
            start += slab.nbytes


def spread(count: int, layers: int) -> frozenset[int]:
    """`count` of `layers` indices, as evenly spaced as can be."""
    if not 0 <= count <= layers:
        raise InputError(f"{count} resident layers were asked of a tower with {layers}; use 0 to {layers}")
    return frozenset((2 * i + 1) * layers // (2 * count) for i in range(count))


def _complete(denoiser: JointDenoiser, kept: KeptText) -> bool:
    return len(kept) == len(denoiser.video.blocks) + len(denoiser.audio.blocks)


def _slabs_of(expert: JointDenoiser, index: int, made: dict[Group, HostSlab]) -> Iterator[HostSlab]:
    for group in layer_groups(expert, index):
        if group not in made:
            made[group] = HostSlab(slab_parameters(group))
        yield made[group]
