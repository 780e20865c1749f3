"""Do the fused kernels compute, on this very device, what PyTorch's operations compute? Tried on a few rows before use.

A kernel is compiled for the machine it runs on, by its compiler and driver: having been right elsewhere is not enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from phonofilm.kernels import ops

BATCH, TOKENS, HEAD, HIDDEN = 2, 3, 128, 64
# Widths of the released audio and video tower. The error allowed, of the largest value: a wrong kernel is far beyond it.
CASES = ((torch.float32, 1536, 1e-4), (torch.bfloat16, 5120, 2**-5))
EPS = 1e-6

Answers = tuple[Tensor, ...]
Trial = tuple[str, Callable[[], Answers], Callable[[], Answers]]
"""A name, what the kernel answers, and what it should."""


@lru_cache
def complaint(device: torch.device) -> str | None:
    """What is wrong with the kernels on `device`, in words; None when nothing is. Tried once in a process."""
    generator = torch.Generator().manual_seed(0)
    for dtype, width, allowed in CASES:
        for name, fused, eager in trials(device, dtype, width, generator):
            try:
                with torch.no_grad():
                    apart = max((_apart(*pair) for pair in zip(fused(), eager(), strict=True)), key=_badness)
            except Exception as error:  # noqa: BLE001 - a compiler, a driver or a launch may fail in any way
                return f"{name} does not run: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            if _badness(apart) > allowed:
                return f"{name} in {str(dtype).removeprefix('torch.')} is {apart:.2g} away from PyTorch's operations"
    return None


def trials(
    device: torch.device,
    dtype: torch.dtype,
    width: int,
    generator: torch.Generator,
    batch: int = BATCH,
    tokens: int = TOKENS,
) -> Iterator[Trial]:
    """Every kernel on random rows, of whatever size: what is tried before use, in the tests and in the benchmarks.

    Numbers come from `generator`, which may be on the host or on `device`.
    """

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device).to(device, dtype)

    x, update = 2 * draw(batch, tokens, width) + 1, draw(batch, tokens, width)
    shift, scale, gate = draw(batch, 6, width).chunk(6, 1)[:3]
    weight = draw(1, 1, width)

    def normed(y: Tensor) -> Tensor:
        return F.layer_norm(y, (width,), eps=EPS)

    yield (
        "norm_modulate",
        lambda: (ops.norm_modulate(x, shift, scale, EPS),),
        lambda: (normed(x) * (1 + scale) + shift,),
    )
    sums = torch.addcmul(x, gate, update), x + update
    yield (
        "residual_norm",
        lambda: ops.residual_norm(x, update, gate, shift, scale, EPS),
        lambda: (sums[0], normed(sums[0]) * scale + shift),
    )
    yield (
        "residual_norm without a gate",
        lambda: ops.residual_norm(x, update, None, shift, weight, EPS),
        lambda: (sums[1], normed(sums[1]) * weight + shift),
    )
    angles = torch.rand(tokens, HEAD // 2, generator=generator, device=generator.device) * 2 * math.pi
    table = torch.polar(torch.ones_like(angles), angles).to(device)
    yield (
        "norm_rotate",
        lambda: ops.norm_rotate(x, update, weight[0, 0], 1 + scale[0, 0], table, EPS),
        lambda: (_turned(x, weight[0, 0], table), _turned(update, 1 + scale[0, 0], table)),
    )
    wide, bias = draw(HIDDEN, width) / math.sqrt(width), draw(HIDDEN)
    yield (
        "linear_gelu",
        lambda: (ops.linear_gelu(x, wide, bias),),
        lambda: (F.gelu(F.linear(x, wide, bias), approximate="tanh"),),
    )
    # Numbers that fp8 has, times a power of two a row: they come back exactly.
    power = 2.0 ** (torch.arange(tokens, device=generator.device) % 8)
    known = torch.randint(-15, 16, (tokens, width), generator=generator, device=generator.device) * power[:, None]
    known[:, 0] = 448.0 / 4 * power
    rows = known.to(device, dtype)
    yield "quantize_rows", lambda: (_restored(*ops.quantize_rows_fp8(rows)),), lambda: (rows,)


def _turned(x: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    pairs = F.rms_norm(x, x.shape[-1:], weight, EPS).float().unflatten(-1, (-1, HEAD // 2, 2))
    turned = torch.view_as_complex(pairs) * table[:, None, :]
    return torch.view_as_real(turned).flatten(-3).to(x.dtype)


def _restored(values: Tensor, scale: Tensor) -> Tensor:
    return values.float() * scale


def _apart(ours: Tensor, reference: Tensor) -> float:
    return float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())


def _badness(apart: float) -> float:
    """Nothing is worse than no number: NaN compares false with everything."""
    return math.inf if math.isnan(apart) else apart
