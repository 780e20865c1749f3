"""Who holds the weights while a model trains. Trained ones are always on the device; this is about the frozen rest, and parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from phonofilm.errors import InputError
from phonofilm.models.joint import JointOutput
from phonofilm.parallel.sharded_tensors import is_sharded
from phonofilm.runtime.backends import CudaBackend, HostBackend
from phonofilm.runtime.backward import TrainingStreamer
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.timesteps import Expert


class WeightPlacement(Protocol):
    """One way to hold them: resident, streamed, sharded. Made before training; `activate` is called before every forward.

    `together`: a forward needs every process, because each holds a part of the weights.
    """

    together: bool

    def place(self, model: JointModel, device: torch.device) -> None:
        """Put the model where training with it starts. Called once, before the optimizer is made."""

    def activate(self, expert: Expert) -> None:
        """Make this expert's video tower ready to run on the device. Calling it again for the same one costs nothing."""


class ResidentWeights:
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


class StreamedWeights:
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


class FullyShardedWeights:
    """Weights of the layers cut over all processes (FSDP2): each keeps its part of every layer and gathers a layer to compute.

    With `trained` those that are trained are cut as well, and FSDP averages their gradients part by part; without it
    (adapters, which are small) they are whole everywhere and the loop averages. What surrounds the layers is whole.
    Trained models may come in their files' dtype, mapped from the files: a layer becomes float32 just before it is cut,
    so that no process ever holds all of them at that size.
    Needs processes that were started together (accelerate launch, torchrun, --gpus).
    """

    together = True

    def __init__(self, trained: bool = False) -> None:
        self._trained = trained

    def place(self, model: JointModel, device: torch.device) -> None:
        if not distributed.is_initialized():
            raise InputError("mode fsdp needs several processes: start it with --gpus N, accelerate launch or torchrun")
        mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        experts = [model.high] if model.low is None else [model.high, model.low]
        layers = [m for expert in experts for index in range(expert.num_layers) for m in expert.layer_modules(index)]
        layers = list(dict.fromkeys(layers))
        whole = set() if self._trained else {p for p in model.parameters() if p.requires_grad}
        for module in layers:
            if self._trained:
                _to_float32(module)
            fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
        cut = {id(parameter) for parameter in model.parameters() if is_sharded(parameter)}
        if self._trained:
            _to_float32(model)
        for module in model.modules():
            _move(module, device, keep=cut)
        root = _Together(layers)
        fully_shard(root, mesh=mesh, ignored_params={p for p in root.parameters() if id(p) not in cut})
        root(_nothing)  # the first call of a root tells the layers that they are not roots themselves
        for expert in experts:
            expert.forward = partial(_gathered, root, expert.forward)  # type: ignore[method-assign]

    def activate(self, expert: Expert) -> None:
        """Nothing: a layer that is not computing is in parts, of either expert."""


class _Together(nn.Module):
    """All layers, whichever expert's: FSDP's root, which ties their streams together and owns no weights itself."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, call: Callable[[], object]) -> None:
        call()


def _gathered(root: _Together, forward: Callable[..., JointOutput], *given: Any, **settings: Any) -> JointOutput:
    """An expert's forward inside the root's. An error in it leaves every layer in parts, ready for the next one."""
    outputs: list[JointOutput] = []  # they go past the root, which would prepare a backward of weights that it has not
    try:
        root(lambda: outputs.append(forward(*given, **settings)))
    except BaseException:
        assert isinstance(root, FSDPModule)
        if hasattr(
            root, "reset_iter_state"
        ):  # from PyTorch 2.13 on; what an older one does after an error was not tried
            root.reset_iter_state()
        raise
    return outputs[0]


def _to_float32(module: nn.Module) -> None:
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point() and not is_sharded(tensor):
            tensor.data = tensor.data.float()


def _nothing() -> None:
    """The forward of no expert."""


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
