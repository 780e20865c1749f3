"""Who holds the base weights while a model trains. Trained weights are always on the device; this is about the frozen rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from phonofilm.errors import InputError
from phonofilm.runtime.backends import CudaBackend, HostBackend
from phonofilm.runtime.backward import TrainingStreamer
from phonofilm.training.joint import JointModel
from phonofilm.training.timesteps import Expert


class Residency(Protocol):
    """One way to hold them: resident, streamed, sharded. Made before training; `activate` is called before every forward.

    `together`: a forward needs every process, because each holds a part of the weights.
    """

    together: bool

    def place(self, model: JointModel, device: torch.device) -> None:
        """Put the model where training with it starts. Called once, before the optimizer is made."""

    def activate(self, expert: Expert) -> None:
        """Make this expert's video tower ready to run on the device. Calling it again for the same one costs nothing."""


class Resident:
    """Everything on the device, of two experts only the active one: the other's frozen weights wait on the host.

    The host keeps its copy of both all the time, so that an expert which leaves the device is dropped, not copied back.
    """

    together = False

    def __init__(self) -> None:
        self._active: Expert | None = None
        self._device = torch.device("cpu")
        self._towers: dict[Expert, nn.Module] = {}
        self._on_host: dict[Expert, dict[str, Tensor]] = {}

    def place(self, model: JointModel, device: torch.device) -> None:
        self._device = device
        if model.low is None:
            model.to(device)
            return
        self._towers = {"high": model.high.video, "low": model.low.video}
        for expert, tower in self._towers.items():
            self._on_host[expert] = {name: tensor.detach() for name, tensor in _frozen(tower)}
        waiting = {id(tensor) for tower in self._towers.values() for _, tensor in _frozen(tower)}
        for module in model.modules():
            _move(module, device, keep=waiting)

    def activate(self, expert: Expert) -> None:
        if not self._towers or expert == self._active:
            return
        for other, tower in self._towers.items():
            if other != expert:
                _put(tower, self._on_host[other])
        on_device = {name: tensor.to(self._device, non_blocking=True) for name, tensor in self._on_host[expert].items()}
        _put(self._towers[expert], on_device)
        self._active = expert


class Streamed:
    """Base weights in host memory, streamed layer by layer, forwards and backwards; trained weights stay on the device.

    Made for one small GPU. On a CPU the same engine runs, copies and all, and saves nothing. `slots`: layers on the device
    at once; `resident`: layers that stay there.
    """

    together = False

    def __init__(self, slots: int = 2, resident: int = 0) -> None:
        self._slots, self._resident = slots, resident
        self._streamer: TrainingStreamer | None = None

    def place(self, model: JointModel, device: torch.device) -> None:
        experts = [model.high] if model.low is None else [model.high, model.low]
        backend = CudaBackend(device) if device.type == "cuda" else HostBackend()
        self._streamer = TrainingStreamer(experts, backend, slots=self._slots, resident=self._resident)
        for module in model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(device)

    def activate(self, expert: Expert) -> None:
        assert self._streamer is not None
        self._streamer.begin()


class Sharded:
    """Base weights cut over all processes (FSDP2): each keeps its part of every layer and gathers a layer when it computes.

    Trained weights are whole everywhere; the loop averages their gradients. What surrounds the layers is whole as well.
    Needs processes that were started together (accelerate launch, torchrun).
    """

    together = True

    def place(self, model: JointModel, device: torch.device) -> None:
        if not distributed.is_initialized():
            raise InputError("mode fsdp needs several processes: start it with accelerate launch or torchrun")
        mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        experts = [model.high] if model.low is None else [model.high, model.low]
        layers = [m for expert in experts for index in range(expert.num_layers) for m in expert.layer_modules(index)]
        trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
        cut: set[int] = set()
        for module in dict.fromkeys(layers):
            fully_shard(module, mesh=mesh, ignored_params=trained)
            cut |= {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
        for module in model.modules():
            _move(module, device, keep=cut)

    def activate(self, expert: Expert) -> None:
        """Nothing: a layer that is not computing is in parts, of either expert."""


def _frozen(tower: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, parameter) for name, parameter in tower.named_parameters() if not parameter.requires_grad)


def _move(module: nn.Module, device: torch.device, keep: set[int]) -> None:
    """Move a module's own parameters and buffers, not its children's, except those in `keep`."""
    for name, parameter in module._parameters.items():
        if parameter is not None and id(parameter) not in keep and parameter.device != device:
            moved = nn.Parameter(parameter.detach().to(device), requires_grad=parameter.requires_grad)
            module._parameters[name] = moved
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = buffer.to(device)


def _put(tower: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        tower.get_submodule(path)._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
