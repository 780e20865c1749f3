"""Layer streaming: weights wait in host memory and pass through a few slots on the device, while it computes.

For sampling; gradients do not flow through it. What a slot holds when, is ring.py's; what runs, models.layerwise's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.layerwise import Moment, Variant, forward_many
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.ring import Ring
from phonofilm.runtime.slabs import HostSlab

Key = tuple[int, int]
"""(expert, layer)."""


class LayerStreamer:
    """One or two experts, streamed through one ring.

    Making one moves the experts' weights: fused layers into slabs of host memory (an audio tower and bridge that both
    experts have are kept once), what surrounds the layers onto the device. `close` takes the device's share back.
    LoRA that is merged into the weights is streamed with them; after merging between forwards call `weights_changed`.

    Args:
        experts: in host memory; JointDenoisers that share audio tower and bridge.
        slots: layers on the device at once. 2 suffice to copy while computing.
        resident: layers of each expert that stay on the device, spread evenly.
    """

    def __init__(
        self, experts: Sequence[JointDenoiser], backend: Backend, *, slots: int = 2, resident: int = 0
    ) -> None:
        self._experts = tuple(experts)
        self._backend = backend
        self._ring = Ring(slots, backend, self._fetch)
        self._slabs: dict[Key, tuple[HostSlab, ...]] = {}
        self._pinned: list[HostSlab] = []
        self._slots: list[Tensor] = []
        kept = [spread(resident, expert.num_layers) for expert in self._experts]
        on_device = dict.fromkeys(_parameters(self._experts))
        made: dict[tuple[nn.Module, ...], HostSlab] = {}
        for number, expert in enumerate(self._experts):
            for index in range(expert.num_layers):
                if index not in kept[number]:
                    self._slabs[number, index] = tuple(_slabs_of(expert, index, made))
        for slab in made.values():
            for parameter in slab.parameters:
                del on_device[parameter]
        self._on_device = tuple(on_device)
        try:
            self._acquire(slots, made.values())
        except (PhonofilmError, RuntimeError):
            self.close()
            raise

    @property
    def streamed_bytes(self) -> tuple[int, ...]:
        """Bytes copied to the device for one forward of each expert, however many variants it evaluates."""
        return tuple(
            sum(slab.nbytes for (number, _), slabs in self._slabs.items() if number == wanted for slab in slabs)
            for wanted in range(len(self._experts))
        )

    @torch.no_grad()
    def forward_many(
        self, moment: Moment, variants: Sequence[Variant], *, expert: int = 0, following: int | None = None
    ) -> list[JointOutput]:
        """Evaluate `variants` with one pass over the weights of `expert`.

        `following`: the expert that will probably be asked next (by default the same); its first layers are fetched while
        the last ones of this forward compute. A wrong guess costs time, never correctness.

        Raises PhonofilmError when a copy fails; the next call starts anew.
        """
        following = expert if following is None else following
        for asked in (expert, following):
            if not 0 <= asked < len(self._experts):
                raise InputError(
                    f"expert {asked} does not exist; this streamer has {len(self._experts)}, counted from 0"
                )
        if self._slabs and not self._slots:
            raise InputError("this streamer was closed; make a new one to stream again")
        self._ring.expect(self._order(expert), self._order(following))

        @contextmanager
        def weights(index: int) -> Iterator[None]:
            slabs = self._slabs.get((expert, index))
            if slabs is None:
                yield
                return
            with self._ring.use((expert, index)) as slot:
                try:
                    for slab, place in self._places(slabs, slot):
                        slab.bind(place)
                    yield
                finally:
                    for slab in slabs:
                        slab.bind(slab.buffer)

        return forward_many(self._experts[expert], moment, variants, weights)

    def weights_changed(self) -> None:
        """Forget what was fetched ahead: the weights in host memory were changed in place."""
        self._ring.expect(())

    def close(self) -> None:
        """Bring every weight back to host memory and give up the device's. The experts can be used as before."""
        self._backend.synchronize()
        for parameter in self._on_device:
            parameter.data = parameter.data.to("cpu")
        for slab in self._pinned:
            self._backend.unpin(slab.buffer)
        self._pinned.clear()
        self._slots.clear()

    def _acquire(self, slots: int, slabs: Collection[HostSlab]) -> None:
        for parameter in self._on_device:
            parameter.data = parameter.data.to(self._backend.device)
        for slab in slabs:
            self._backend.pin(slab.buffer)
            self._pinned.append(slab)
        if self._slabs:
            largest = max(sum(slab.nbytes for slab in parts) for parts in self._slabs.values())
            self._slots = [self._backend.allocate(largest) for _ in range(slots)]

    def _order(self, expert: int) -> list[Key]:
        return [key for key in self._slabs if key[0] == expert]

    def _fetch(self, key: Key, slot: int) -> None:
        slabs = self._slabs[key]
        try:
            for slab, place in self._places(slabs, slot):
                self._backend.copy(slab.buffer[: slab.nbytes], place)
        except (RuntimeError, OSError) as error:
            raise PhonofilmError(
                f"copying layer {key[1]} of expert {key[0]} ({sum(slab.nbytes for slab in slabs) / 1e6:.0f} MB) to "
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


def _slabs_of(expert: JointDenoiser, index: int, made: dict[tuple[nn.Module, ...], HostSlab]) -> Iterator[HostSlab]:
    """A layer's slabs: the expert's own block, and what its layers share with the other expert, which is `made` once."""
    own, *shared = expert.layer_modules(index)
    for group in ((own,), tuple(shared)):
        if group and group not in made:
            made[group] = HostSlab(_parameters(group))
        if group:
            yield made[group]


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return list(dict.fromkeys(parameter for module in modules for parameter in module.parameters()))
