"""Attention backends: which are here, which work on a device, and for "auto" which is fastest at the clip's own shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from phonofilm.errors import InputError
from phonofilm.generation.report import Message, emit

if TYPE_CHECKING:
    import torch

    from phonofilm.generation.checkpoint import Checkpoint
    from phonofilm.generation.clip_plan import ClipPlan
    from phonofilm.generation.placement.devices import DevicePlacement
    from phonofilm.generation.report import OnProgress

AUTO = "auto"
NATIVE = "native"
RUNS = 3
# Not exact, or with a matrix of all scores in memory.
NOT_TRIED = ("sage", "math", "flex")


def resolve_attention(
    placement: DevicePlacement, checkpoint: Checkpoint, clips: Sequence[ClipPlan], on_progress: OnProgress
) -> DevicePlacement:
    """The placement with its attention backend decided. Without CUDA, auto is PyTorch's own; nothing is measured there."""
    if placement.attention != AUTO:
        return placement
    if placement.device.type != "cuda" or not clips:
        return replace(placement, attention=NATIVE)
    config = checkpoint.layout.components["video_dit"].config
    tokens = max(clip.sampling.task.geometry.video_tokens for clip in clips)
    heads = config["num_heads"]
    seconds = _measured(tokens, heads, config["dim"] // heads, placement.dtype, placement.device)
    times = ", ".join(f"{name} {1e3 * time:.3g} ms" for name, time in sorted(seconds.items(), key=lambda one: one[1]))
    emit(on_progress, Message(f"attention over {tokens} tokens: {times}"))
    return replace(placement, attention=attention_backend_name(fastest(seconds), placement.device, placement.dtype))


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
        return float(start.elapsed_time(end) / 1e3 / RUNS)

    installed = [name for name, missing in attention_backends().items() if missing is None]
    return measure([name for name in installed if not any(part in name for part in NOT_TRIED)], run)


def attention_backends() -> dict[str, str | None]:
    """Every attention backend by diffusers' name (less the leading underscore), and why it cannot be used, if so.

    A backend that is installed may still refuse a device, a dtype or a head width when it runs.
    """
    from diffusers.models import attention_dispatch

    found: dict[str, str | None] = {}
    for backend in attention_dispatch.AttentionBackendName:
        try:
            attention_dispatch._check_attention_backend_requirements(backend)
        except RuntimeError as error:
            found[backend.value.removeprefix("_")] = str(error)
        else:
            found[backend.value.removeprefix("_")] = None
    return found


def attention_backend_name(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """diffusers' own name of a backend that is installed and works on this device at this precision: it is tried."""
    import torch
    from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn

    known = attention_backends()
    short = name.removeprefix("_")
    if short not in known:
        raise InputError(f"attention backend {name!r} is unknown; known are {', '.join(known)}")
    if (missing := known[short]) is not None:
        raise InputError(f"attention backend {name} is not installed: {missing}")
    backend = next(b.value for b in AttentionBackendName if b.value.removeprefix("_") == short)
    probe = torch.ones(1, 16, 1, 128, device=device, dtype=dtype)
    # On the CPU the text's padding is folded into a mask, which not every backend takes.
    mask = probe.new_zeros(1, 1, 1, 16) if device.type == "cpu" else None
    try:
        with attention_backend(backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # flex says that it is slow without compilation
            dispatch_attention_fn(probe, probe, probe, attn_mask=mask)
    except (RuntimeError, ValueError, TypeError, ImportError, AssertionError) as error:
        raise InputError(f"attention backend {name} does not work on {device} in {dtype}: {error}") from error
    return str(backend)


@contextmanager
def attention_of(placement: DevicePlacement) -> Iterator[None]:
    """The attention backend in force while the networks run."""
    from diffusers.models.attention_dispatch import attention_backend

    with attention_backend(placement.attention):
        yield
