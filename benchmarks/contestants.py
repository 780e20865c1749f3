"""Who runs the step, and how: each takes the workload's model in host memory, sets it up, runs steps, and puts it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch

from benchmarks.workload import Workload
from phonofilm.errors import InputError
from phonofilm.kernels.choice import choose_kernels, use_kernels
from phonofilm.models.compiling import compile_layers, require_compiler
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.quantized import quantize
from phonofilm.models.shared_forward import forward_one
from phonofilm.runtime.backends import CudaBackend, HostBackend
from phonofilm.runtime.streaming import LayerStreamer


@dataclass(frozen=True)
class Running:
    """A contestant at work. `step` makes one guided step; `streamed_bytes` reach the device in each; of its FLOPs,
    `fp8_flops` may be done in fp8."""

    step: Callable[[], list[JointOutput]]
    streamed_bytes: int = 0
    fp8_flops: int = 0


@dataclass(frozen=True)
class Contestant:
    """`ours`: or a peer. `what`: how it computes and keeps its weights, in words. `on_cpu`: whether it runs there unasked."""

    name: str
    what: str
    ours: bool
    run: Callable[[Workload], AbstractContextManager[Running]]
    on_cpu: bool = True


@dataclass(frozen=True)
class Ours:
    """Our ways of computing, in one combination."""

    streams: bool = False
    fp8: bool = False
    fused: bool = False
    compiles: bool = False

    @contextmanager
    def __call__(self, workload: Workload) -> Iterator[Running]:
        """Raises InputError when this machine cannot."""
        name = choose_kernels("triton", workload.device) if self.fused else "eager"
        if self.compiles:
            require_compiler(workload.device)
        with _borrowed(workload) as denoiser, ExitStack() as stack:
            networks = denoiser.video, denoiser.audio, denoiser.bridge
            if self.fp8:
                for network in networks:
                    quantize(network, "fp8")
            use_kernels(denoiser, name)
            if self.compiles:
                compile_layers(networks)
            fp8_flops = workload.linear_flops if self.fp8 else 0
            if not self.streams:
                denoiser.to(workload.device)
                yield Running(lambda: _one_by_one(denoiser, workload), fp8_flops=fp8_flops)
                return
            backend = CudaBackend(workload.device) if workload.device.type == "cuda" else HostBackend()
            streamer = LayerStreamer([denoiser], backend, slots=2)
            stack.callback(streamer.close)
            yield Running(
                lambda: streamer.forward_many(workload.inputs, workload.conditionings),
                sum(streamer.streamed_bytes),
                fp8_flops,
            )


@contextmanager
def group_offload(workload: Workload) -> Iterator[Running]:
    """diffusers' group offloading, as its documentation tells to use it: leaf by leaf, with a stream of its own."""
    from diffusers.hooks import apply_group_offloading

    with _borrowed(workload) as denoiser:
        for tower in (denoiser.video, denoiser.audio, denoiser.bridge):
            apply_group_offloading(
                tower,
                onload_device=workload.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=workload.device.type == "cuda",
            )
        yield Running(lambda: _one_by_one(denoiser, workload), len(workload.conditionings) * workload.weight_bytes)


CONTESTANTS = (
    Contestant("resident", "all weights on the device", True, Ours()),
    Contestant("resident fused", "the same with Triton kernels", True, Ours(fused=True), on_cpu=False),
    Contestant("resident compiled", "the same through torch.compile", True, Ours(compiles=True), on_cpu=False),
    Contestant("streamed", "2 layers on the device, fetched once a step", True, Ours(streams=True)),
    Contestant("streamed fused", "the same with Triton kernels", True, Ours(streams=True, fused=True), on_cpu=False),
    Contestant("resident fp8", "linear layers in fp8, lossy", True, Ours(fp8=True)),
    Contestant("streamed fp8", "the same, streamed", True, Ours(streams=True, fp8=True)),
    Contestant(
        "streamed fp8 fused", "with Triton kernels", True, Ours(streams=True, fp8=True, fused=True), on_cpu=False
    ),
    Contestant("diffusers leaf", "diffusers group offload, leaf by leaf", False, group_offload),
)


def chosen(names: Sequence[str], device: torch.device) -> list[Contestant]:
    """Those named; by default all that run on `device` in reasonable time. Raises InputError for an unknown name."""
    known = [contestant.name for contestant in CONTESTANTS]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"contestant {', '.join(unknown)} is unknown; use {', '.join(known)}")
    return [one for one in CONTESTANTS if (one.name in names if names else one.on_cpu or device.type == "cuda")]


@contextmanager
def _borrowed(workload: Workload) -> Iterator[JointDenoiser]:
    """Modules of one's own around the workload's weights: there is host memory for one set. Afterwards they are back there."""
    shared = {id(parameter): parameter for parameter in workload.denoiser.parameters()}
    try:
        yield deepcopy(workload.denoiser, shared)
    finally:
        workload.denoiser.to("cpu")


def _one_by_one(denoiser: JointDenoiser, workload: Workload) -> list[JointOutput]:
    return [forward_one(denoiser, workload.inputs, conditioning) for conditioning in workload.conditionings]
