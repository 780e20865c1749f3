"""A guided step with the weights waiting in host memory: streamed in bfloat16 and fp8, by component, and by diffusers."""

from __future__ import annotations

import torch
from accelerate import cpu_offload_with_hook

from benchmarks.contestants import HOST, Contestant, Ours, group_offload, one_by_one
from benchmarks.gpu.context import Context
from benchmarks.gpu.steps import measure
from benchmarks.timing import forget_peak, peak_bytes, timed

SHORT_STEPS = 3


def streamed(context: Context) -> None:
    """Two layers on the device: the default of offload layer."""
    ours = _ours(context, "streamed {}, 2 slots", Ours(streams=True, fused=context.on_gpu))
    measure(context, ours, short_steps=SHORT_STEPS, same_as="fused")


def streamed_3_slots(context: Context) -> None:
    """Whether a third slot hides what two leave open."""
    ours = _ours(context, "streamed {}, 3 slots", Ours(streams=True, fused=context.on_gpu, slots=3))
    measure(context, ours, short_steps=SHORT_STEPS, same_as="fused")


def fp8(context: Context) -> None:
    """Linear layers in fp8, made on the device and kept there."""
    measure(context, _ours(context, "resident fp8 {}", Ours(fp8=True, fused=context.on_gpu)), keep="fp8")


def fp8_streamed(context: Context) -> None:
    """The same, streamed: half the bytes."""
    ours = _ours(context, "streamed fp8 {}, 2 slots", Ours(streams=True, fp8=True, fused=context.on_gpu))
    measure(context, ours, short_steps=SHORT_STEPS, same_as="fp8")


def group(context: Context) -> None:
    """diffusers' group offloading of the same denoiser, by leaf, with a stream: the peer of layer streaming."""
    peer = Contestant("diffusers group offload", "", False, group_offload, "host")
    measure(context, peer, short_steps=1)
    context.drop()  # its weights lie in memory that PyTorch pinned, which nobody else needs


@torch.no_grad()
def model(context: Context) -> None:
    """Offload by component: an expert's tower comes to the device for its part of the steps; sound and bridge stay there."""
    work = context.workload(HOST)
    forget_peak(context.device)
    denoiser = work.denoiser
    for module in (denoiser.audio, denoiser.bridge):
        module.to(context.device)
    _, hook = cpu_offload_with_hook(denoiser.video, context.device)
    tower_bytes = sum(parameter.nbytes for parameter in denoiser.video.parameters())
    try:
        seconds = timed(lambda: denoiser.video._hf_hook.pre_forward(denoiser.video), context.device)
        step = timed(lambda: one_by_one(denoiser, work), context.device)
        figures = {"to_device_s": seconds, "to_device_bytes_s": tower_bytes / seconds, "s_step_eager": step}
        figures["to_host_s"] = timed(hook.offload, context.device)
        context.row("model offload", {**figures, **peak_bytes(context.device)})
    finally:
        hook.remove()
        work.move_weights(HOST)


def _ours(context: Context, name: str, ours: Ours) -> Contestant:
    return Contestant(name.format(context.way), "", True, ours, "host")
