"""Who runs the step, and how: each takes the workload's model, sets it up, runs steps, and leaves the weights where they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from benchmarks.workload import Workload
from phonofilm.errors import InputError
from phonofilm.kernels.choice import choose_kernels, use_kernels
from phonofilm.models.compiling import compile_layers, require_compiler
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.quantized import QuantizedLinear, empty_quantized
from phonofilm.models.shared_forward import forward_one
from phonofilm.runtime.backends import Backend, CudaBackend, HostBackend
from phonofilm.runtime.layer_streaming import LayerStreamer

HOST = torch.device("cpu")


@dataclass(frozen=True)
class Running:
    """A contestant at work.

    `step` makes one guided step with a workload's inputs, which may be another clip's; `streamed_bytes` reach the device in
    each; of its FLOPs, `fp8_flops` may be done in fp8.
    """

    step: Callable[[Workload], list[JointOutput]]
    streamed_bytes: int = 0
    fp8_flops: int = 0


@dataclass(frozen=True)
class Contestant:
    """`ours`: or a peer. `what`: how it computes and keeps its weights, in words.

    weights: where the workload's must lie when it begins. on_cpu: whether it runs on the host unasked.
    """

    name: str
    what: str
    ours: bool
    run: Callable[[Workload], AbstractContextManager[Running]]
    weights: Literal["device", "host"] = "device"
    on_cpu: bool = True

    def home(self, device: torch.device) -> torch.device:
        """Where the weights of a workload on `device` must lie."""
        return device if self.weights == "device" else HOST


@dataclass(frozen=True)
class Ours:
    """Our ways of computing, in one combination. `slots`: layers on the device at once, where they are streamed."""

    streams: bool = False
    fp8: bool = False
    fused: bool = False
    compiles: bool = False
    slots: int = 2

    @contextmanager
    def __call__(self, workload: Workload) -> Iterator[Running]:
        """Raises InputError when this machine cannot."""
        device = workload.device
        name = choose_kernels("triton", device) if self.fused else "eager"
        if self.compiles:
            require_compiler(device)
        with _borrowed(workload) as denoiser, ExitStack() as stack:
            networks = denoiser.video, denoiser.audio, denoiser.bridge
            if self.fp8:
                for network in networks:
                    quantize_on(device, network, home=HOST if self.streams else device)
            use_kernels(denoiser, name)
            if self.compiles:
                compile_layers(networks)
            fp8_flops = workload.linear_flops if self.fp8 else 0
            if not self.streams:
                denoiser.to(device)
                yield Running(lambda work: one_by_one(denoiser, work), fp8_flops=fp8_flops)
                return
            streamer = LayerStreamer([denoiser], backend_of(device), slots=self.slots, keep_text=True)
            stack.callback(streamer.close)
            yield Running(
                lambda work: streamer.forward_many(work.inputs, work.conditionings),
                sum(streamer.streamed_bytes_with_kept_text),
                fp8_flops,
            )


@contextmanager
def group_offload(workload: Workload) -> Iterator[Running]:
    """diffusers' group offloading, leaf by leaf, with a stream of its own, as its documentation tells to use it.

    It is applied to the denoiser, whose forward is what is called: what it fetches ahead it learns in that forward, and on
    the towers, of which only the blocks are called, it would fetch nothing ahead. `record_stream` spares it a wait of the
    host at every leaf.
    """
    from diffusers.hooks import apply_group_offloading

    streams = workload.device.type == "cuda"
    with _borrowed(workload) as denoiser:
        apply_group_offloading(
            denoiser,
            onload_device=workload.device,
            offload_device=HOST,
            offload_type="leaf_level",
            use_stream=streams,
            record_stream=streams,
        )
        yield Running(lambda work: one_by_one(denoiser, work), len(workload.conditionings) * workload.weight_bytes)


CONTESTANTS = (
    Contestant("resident", "all weights on the device", True, Ours()),
    Contestant("resident fused", "the same with Triton kernels", True, Ours(fused=True), on_cpu=False),
    Contestant("resident compiled", "the same through torch.compile", True, Ours(compiles=True), on_cpu=False),
    Contestant("streamed", "2 layers on the device, fetched once a step", True, Ours(streams=True), "host"),
    Contestant(
        "streamed fused", "the same with Triton kernels", True, Ours(streams=True, fused=True), "host", on_cpu=False
    ),
    Contestant("resident fp8", "linear layers in fp8, lossy", True, Ours(fp8=True), "host"),
    Contestant(
        "resident fp8 fused", "the same with Triton kernels", True, Ours(fp8=True, fused=True), "host", on_cpu=False
    ),
    Contestant("streamed fp8", "fp8, streamed", True, Ours(streams=True, fp8=True), "host"),
    Contestant(
        "streamed fp8 fused",
        "the same with Triton kernels",
        True,
        Ours(streams=True, fp8=True, fused=True),
        "host",
        on_cpu=False,
    ),
    Contestant("diffusers leaf", "diffusers group offload, leaf by leaf", False, group_offload, "host"),
)


def chosen(names: Sequence[str], device: torch.device) -> list[Contestant]:
    """Those named; by default all that run on `device` in reasonable time. Raises InputError for an unknown name."""
    known = [contestant.name for contestant in CONTESTANTS]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"contestant {', '.join(unknown)} is unknown; use {', '.join(known)}")
    return [one for one in CONTESTANTS if (one.name in names if names else one.on_cpu or device.type == "cuda")]


def quantize_on(device: torch.device, network: nn.Module, home: torch.device) -> None:
    """fp8 in place of the linear layers of a tower or bridge that may be, one at a time: made on `device`, kept in `home`.

    A host would take minutes for the released sizes.
    """
    plain = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    empty_quantized(network, "fp8")
    for name in [name for name, module in network.named_modules() if isinstance(module, QuantizedLinear)]:
        network.set_submodule(name, QuantizedLinear.of(_copied_to(device, plain.pop(name)), "fp8").to(home))


def backend_of(device: torch.device) -> Backend:
    """What streams to `device`."""
    return CudaBackend(device) if device.type == "cuda" else HostBackend()


def _copied_to(device: torch.device, layer: nn.Linear) -> nn.Linear:
    """The same layer with weights of its own: `layer` itself is shared with whoever lent the weights."""
    made = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    for name, parameter in layer.named_parameters():
        setattr(made, name, nn.Parameter(parameter.detach().to(device), requires_grad=False))
    return made.train(layer.training)


def one_by_one(denoiser: JointDenoiser, work: Workload) -> list[JointOutput]:
    """One forward after the other."""
    return [forward_one(denoiser, work.inputs, conditioning) for conditioning in work.conditionings]


@contextmanager
def _borrowed(workload: Workload) -> Iterator[JointDenoiser]:
    """Modules of one's own around the workload's weights: there is memory for one set. Afterwards they are back home."""
    parameters = list(workload.denoiser.parameters())
    home = parameters[0].device
    try:
        yield deepcopy(workload.denoiser, {id(parameter): parameter for parameter in parameters})
    finally:
        workload.denoiser.to(home)
