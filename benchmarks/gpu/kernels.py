"""Every fused kernel beside PyTorch's operations at the true shapes: how far apart, how fast, how near to the memory's rate."""

from __future__ import annotations

import importlib.util

import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.stages import Skipped
from benchmarks.timing import median_seconds
from phonofilm.kernels import check
from phonofilm.kernels.cases import KernelCase, Sizes, cases
from phonofilm.kernels.choice import choose_kernels
from phonofilm.kernels.fp8_support import has_fp8

REPEATS = 5
AUDIO = Sizes(width=1536, tokens=403, batch=1, hidden=8960)
"""The released audio tower's."""
TINY = Sizes(width=256, tokens=2, batch=1)
"""What an interpreter can do."""


@torch.no_grad()
def compare(context: Context) -> None:
    """Over the rows of the video tower, and of the audio tower. Raises RuntimeError, at the end, if one is wrong."""
    if importlib.util.find_spec("triton") is None:
        raise Skipped("the package triton is not installed")
    complaint, chosen = check.complaint(context.device), choose_kernels("auto", context.device)
    context.row("choice", {"complaint": complaint, "auto": chosen})
    shape = context.shape
    video = Sizes(width=shape.width, tokens=shape.tokens, batch=1, hidden=shape.wide)
    generator = torch.Generator(context.device).manual_seed(0)
    wrong: list[str] = []
    for sizes in (TINY,) if context.tiny else (video, AUDIO):
        every = cases(context.device, context.dtype, sizes, generator, fp8=has_fp8(context.device))
        wrong += [case.name for case in every if not _compared(context, case, sizes)]
    if complaint is not None or wrong:
        raise RuntimeError(f"kernels are wrong: {complaint or ', '.join(wrong)}")


def _compared(context: Context, case: KernelCase, sizes: Sizes) -> bool:
    """A row of one kernel; whether it answers what it should. Bytes: each input read once, each result written once."""
    error = case.error()
    moved = sum(tensor.nbytes for tensor in (*case.inputs, *case.fused()))
    repeats = 1 if context.tiny else REPEATS
    seconds = median_seconds(case.fused, context.device, repeats)
    figures: dict[str, object] = {
        "width": sizes.width,
        "tokens": sizes.tokens,
        "difference": error,
        "allowed": case.allowed,
    }
    figures |= {"seconds": seconds, "eager_seconds": median_seconds(case.eager, context.device, repeats)}
    context.row(case.name, {**figures, "bytes": moved, "bytes_s": moved / seconds})
    return error <= case.allowed
