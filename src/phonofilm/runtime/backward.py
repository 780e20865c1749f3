"""Layer streaming for training: frozen weights pass through the slots on the way forward, and once more on the way back.

Needs gradient checkpointing: the backward pass then computes one fused layer after the other anew, last to first, and a
layer's gradients are done before the next one starts. So a layer's slot is free when the next layer down is entered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from phonofilm.models.joint import JointCondition, JointDenoiser
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.layer_groups import Group, layer_groups, parameters_of
from phonofilm.runtime.layer_streaming import LayerStreamer
from phonofilm.runtime.ring import SLOTS
from phonofilm.runtime.slabs import HostSlab


class TrainingStreamer(LayerStreamer):
    """A LayerStreamer whose experts are called, and differentiated, as if their weights were on the device.

    Only frozen parameters are streamed; trained ones (adapters) stay on the device. Making one takes the place of the
    experts' `layer`; `close` gives it back. `forward_many` works as well, between two updates.

    Args: as LayerStreamer's.
    """

    def __init__(
        self, experts: Sequence[JointDenoiser], backend: Backend, *, slots: int = SLOTS, resident: int = 0
    ) -> None:
        super().__init__(experts, backend, slots=slots, resident=resident, slabs=_frozen_slabs(experts))
        self._held = ExitStack()
        self._pending: tuple[int, int] | None = None
        for number, expert in enumerate(experts):
            expert.layer = MethodType(_Streamed(self, number), expert)  # type: ignore[method-assign]

    def begin(self) -> None:
        """Release the slot of the layer that the last backward pass ended with, or that an error left behind."""
        self._held.close()

    def close(self) -> None:
        """As LayerStreamer's, and the experts' own `layer` is theirs again."""
        self.begin()
        for expert in self._experts:
            if expert is not None:
                vars(expert).pop("layer", None)
        super().close()

    def enter(self, number: int, index: int) -> None:
        """Put the weights of a layer in place, and keep them there until another one is entered."""
        self.begin()
        back = _in_backward()
        expert = self._experts[number]
        assert expert is not None
        first = expert.num_layers - 1 if back else 0
        if index == first or self._pending != (number, index):
            self._expect(number, index, back)
        step = -1 if back else 1
        self._pending = (number, index + step)
        slabs = self._slabs.get((number, index))
        if slabs is None:
            return
        slot = self._held.enter_context(self._ring.use((number, index, True)))
        self._held.callback(_bind_to_host, slabs)
        for slab, place in self._places(slabs, slot):
            slab.bind(place)

    def _expect(self, number: int, index: int, back: bool) -> None:
        """What comes: the layers from `index` on, then the way back; or the layers down from it, then the next forward."""
        order = self._order(number, whole=True)
        ahead = [key for key in order if key[1] >= index]
        down = [key for key in reversed(order) if key[1] <= index]
        if back:
            self._ring.expect(down, order)
        else:
            self._ring.expect(ahead, order[::-1] if torch.is_grad_enabled() else order)


class _Streamed:
    """Stands for `JointDenoiser.layer` of one expert."""

    def __init__(self, streamer: TrainingStreamer, number: int) -> None:
        self._streamer, self._number = streamer, number

    def __call__(
        self, expert: JointDenoiser, index: int, video: Tensor, audio: Tensor, condition: JointCondition
    ) -> tuple[Tensor, Tensor]:
        self._streamer.enter(self._number, index)
        return JointDenoiser.layer(expert, index, video, audio, condition)


def _frozen_slabs(experts: Sequence[JointDenoiser]) -> Mapping[Group, HostSlab]:
    """A slab for the frozen parameters of every group of modules; groups that the experts share have one."""
    slabs: dict[Group, HostSlab] = {}
    for expert in experts:
        for index in range(expert.num_layers):
            for group in layer_groups(expert, index):
                if group not in slabs:
                    slabs[group] = HostSlab(_frozen(group))
    return slabs


def _frozen(group: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters_of(group) if not parameter.requires_grad]


def _bind_to_host(slabs: Sequence[HostSlab]) -> None:
    for slab in slabs:
        slab.bind(slab.buffer)


def _in_backward() -> bool:
    """Whether autograd's engine is at work in this thread: then a layer is entered to be computed anew."""
    task: Any = torch._C._current_graph_task_id()
    return bool(task != -1)
