"""`--attn-backend auto`: the fastest exact backend for the clip's own shape, by trying them on the device, once per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from phonofilm.cli.devices import Machine, attention_backend_name, attention_backends
from phonofilm.errors import InputError

if TYPE_CHECKING:
    import torch

    from phonofilm.cli.checkpoint import Checkpoint
    from phonofilm.cli.plan import ClipPlan
    from phonofilm.cli.progress import Report

AUTO = "auto"
NATIVE = "native"
RUNS = 3
# Not exact, or with a matrix of all scores in memory.
NOT_TRIED = ("sage", "math", "flex")


def settle_attention(machine: Machine, checkpoint: Checkpoint, clips: Sequence[ClipPlan], report: Report) -> Machine:
    """The machine with its attention backend decided. Without CUDA, auto is PyTorch's own; nothing is measured there."""
    if machine.attention != AUTO:
        return machine
    if machine.device.type != "cuda" or not clips:
        return replace(machine, attention=NATIVE)
    config = checkpoint.layout.components["video_dit"].config
    tokens = max(clip.task.geometry.video_tokens for clip in clips)
    heads = config["num_heads"]
    seconds = _measured(tokens, heads, config["dim"] // heads, machine.dtype, machine.device)
    told = ", ".join(f"{name} {1e3 * time:.3g} ms" for name, time in sorted(seconds.items(), key=lambda one: one[1]))
    report.say(f"attention over {tokens} tokens: {told}")
    return replace(machine, attention=attention_backend_name(fastest(seconds), machine.device, machine.dtype))


def fastest(seconds: Mapping[str, float]) -> str:
    """The name with the least time; PyTorch's own when it is within 2 % of that, or nothing else ran."""
    best = min(seconds, key=lambda name: seconds[name], default=NATIVE)
    return NATIVE if seconds.get(NATIVE, float("inf")) <= 1.02 * seconds.get(best, 0.0) else best


def measure(names: Sequence[str], run: Callable[[str], float]) -> dict[str, float]:
    """The seconds of each backend that runs; one that fails on this shape, or runs out of memory, is left out."""
    found = {}
    for name in names:
        try:
            found[name] = run(name)
        except (RuntimeError, ValueError, InputError):
            continue
    return found


@lru_cache
def _measured(tokens: int, heads: int, width: int, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    import torch
    from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn

    q, k, v = (torch.randn(1, tokens, heads, width, device=device, dtype=dtype) for _ in range(3))

    def run(name: str) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with attention_backend(attention_backend_name(name, device, dtype)):
            dispatch_attention_fn(q, k, v)
            start.record()
            for _ in range(RUNS):
                dispatch_attention_fn(q, k, v)
            end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / RUNS

    installed = [name for name, missing in attention_backends().items() if missing is None]
    return measure([name for name in installed if not any(part in name for part in NOT_TRIED)], run)
