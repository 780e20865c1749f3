"""Every fused kernel beside PyTorch's operations at the true shapes: how far apart, how fast, how near to the memory's rate."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from benchmarks.gpu.context import Context
from benchmarks.gpu.stages import Skipped
from benchmarks.timing import median_seconds
from phonofilm.evaluation.counters import count
from phonofilm.kernels import check
from phonofilm.kernels.choice import choose_kernels

REPEATS = 5
AUDIO, TINY = (1536, 403), (256, 3)
"""Width and tokens of the released audio tower, and of what an interpreter can do."""


@torch.no_grad()
def compare(context: Context) -> None:
    """Over the rows of the video tower, and of the audio tower."""
    if importlib.util.find_spec("triton") is None:
        raise Skipped("the package triton is not installed")
    context.row(
        "choice", {"complaint": check.complaint(context.device), "auto": choose_kernels("auto", context.device)}
    )
    video = context.shape.width, context.shape.tokens
    for width, tokens in (TINY,) if context.tiny else (video, AUDIO):
        _compare_rows(context, width, tokens)


def _compare_rows(context: Context, width: int, tokens: int) -> None:
    generator = torch.Generator(context.device).manual_seed(0)
    anchor = torch.empty(0, device=context.device)  # tells the counter which device to count on
    for trial in check.trials(context.device, context.dtype, width, generator, batch=1, tokens=tokens):
        name, fused, eager = trial
        errors = [_apart(ours, its) for ours, its in zip(fused(), eager(), strict=True)]
        counted = count(fused, inputs=[anchor])
        repeats = 1 if context.tiny else REPEATS
        seconds = median_seconds(fused, context.device, repeats)
        context.row(
            name,
            {
                "width": width,
                "tokens": tokens,
                "relative_error": max(errors),
                "seconds": seconds,
                "eager_seconds": median_seconds(eager, context.device, repeats),
                "bytes_s": counted.elementwise_bytes / seconds,
                "flops_s": counted.flops / seconds,
            },
        )


def _apart(ours: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the reference's; a NaN anywhere is infinitely far."""
    apart = float((ours.float() - reference.float()).norm() / reference.float().norm())
    return apart if apart == apart else float("inf")
