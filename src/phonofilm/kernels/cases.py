"""Every fused operation beside the PyTorch operations it stands for, on random rows of any size.

The one list of them: what is tried on a machine before use (check.py), what the tests hold to, and what
benchmarks/gpu times at the true sizes. A new operation is added here and is then tried everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from phonofilm.kernels import ops

EPS = 1e-6
# Errors allowed, of the largest value. A wrong kernel is far beyond them.
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 2**-5}
ALLOWED_FP8 = 0.08
"""One step of fp8 for its largest values: 32 of 448. Two ways to the same number may round it to either side."""
ALLOWED_FP8_INTERPRETED = 0.3
"""Triton's interpreter loses the carry when it rounds to fp8: what should become 256 becomes 128."""

Results = tuple[Tensor, ...]


@dataclass(frozen=True)
class Sizes:
    """Rows to try a kernel on. `width`: channels of a token, a multiple of `head`. `hidden`: outputs of a linear layer."""

    width: int
    tokens: int = 3
    batch: int = 2
    head: int = 128
    hidden: int = 64


@dataclass(frozen=True)
class KernelCase:
    """One operation on given rows. `fused` and `eager` compute the same results from `inputs`, within `allowed`.

    `fp8`: the last two results are float8 values [...,d] and their scales [...,1].
    """

    name: str
    inputs: tuple[Tensor, ...]
    fused: Callable[[], Results]
    eager: Callable[[], Results]
    allowed: float
    fp8: bool = False

    def error(self) -> float:
        """The largest difference between what both compute, of the largest value; NaN where either has one."""
        errors = [_error(*pair) for pair in zip(self._numbers(self.fused()), self._numbers(self.eager()), strict=True)]
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    def _numbers(self, results: Results) -> Results:
        if not self.fp8:
            return results
        *others, values, scale = results
        return *others, values.float() * scale


def cases(
    device: torch.device, dtype: torch.dtype, sizes: Sizes, generator: torch.Generator, *, fp8: bool = True
) -> Iterator[KernelCase]:
    """All operations, or all that need no float8, in `dtype`. Numbers come from `generator`, on the host or on `device`."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device).to(device, dtype)

    width = sizes.width
    x, update = 2 * draw(sizes.batch, sizes.tokens, width) + 1, draw(sizes.batch, sizes.tokens, width)
    shift, scale, gate = draw(sizes.batch, 6, width).chunk(6, 1)[:3]
    weight, weight_k = draw(2, width) / 4 + 1
    yield from _norms(x, update, shift, scale, gate, weight)
    angles = torch.rand(sizes.tokens, sizes.head // 2, generator=generator, device=generator.device) * 2 * math.pi
    yield from _rotations(x, update, weight, weight_k, angles.to(device))
    wide, bias = draw(sizes.hidden, width) / math.sqrt(width), draw(sizes.hidden)
    yield KernelCase(
        "linear_gelu",
        (x, wide, bias),
        lambda: (ops.linear_gelu(x, wide, bias),),
        lambda: (F.gelu(F.linear(x, wide, bias), approximate="tanh"),),
        ALLOWED[dtype],
    )
    if fp8:
        yield from _fp8(x, update, shift, scale, gate)


def _norms(
    x: Tensor, update: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, weight: Tensor
) -> Iterator[KernelCase]:
    def eager(gate: Tensor | None, factor: Tensor) -> Results:
        y = x + update if gate is None else torch.addcmul(x, gate, update)
        return y, _normed(y) * factor + shift

    factor, allowed = weight[None, None], ALLOWED[x.dtype]
    yield KernelCase(
        "norm_affine",
        (x, shift, scale),
        lambda: (ops.norm_affine(x, shift, scale, EPS),),
        lambda: (_normed(x) * scale + shift,),
        allowed,
    )
    yield KernelCase(
        "residual_norm",
        (x, update, gate, shift, scale),
        lambda: ops.residual_norm(x, update, gate, shift, scale, EPS),
        lambda: eager(gate, scale),
        allowed,
    )
    yield KernelCase(
        "residual_norm without a gate",
        (x, update, shift, factor),
        lambda: ops.residual_norm(x, update, None, shift, factor, EPS),
        lambda: eager(None, factor),
        allowed,
    )


def _rotations(x: Tensor, k: Tensor, weight: Tensor, weight_k: Tensor, angles: Tensor) -> Iterator[KernelCase]:
    """angles [n,e/2]."""
    table = torch.polar(torch.ones_like(angles), angles)
    cos, sin = (torch.cat((half, half), dim=-1) for half in (angles.cos(), angles.sin()))
    allowed = ALLOWED[x.dtype]
    yield KernelCase(
        "norm_rotate",
        (x, k, weight, weight_k, table),
        lambda: ops.norm_rotate(x, k, weight, weight_k, table, EPS),
        lambda: (_pairs_rotated(x, weight, table), _pairs_rotated(k, weight_k, table)),
        allowed,
    )
    yield KernelCase(
        "norm_rotate_halves",
        (x, weight, cos, sin),
        lambda: (ops.norm_rotate_halves(x, weight, cos, sin, EPS),),
        lambda: (_halves_rotated(x, weight, cos, sin),),
        allowed,
    )


def _fp8(x: Tensor, update: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Iterator[KernelCase]:
    def eager_residual() -> Results:
        y = torch.addcmul(x, gate, update)
        return y, *_in_fp8(_normed(y) * scale + shift)

    case = partial(KernelCase, allowed=ALLOWED_FP8 if x.is_cuda else ALLOWED_FP8_INTERPRETED, fp8=True)
    yield case("quantize_rows_fp8", (x,), lambda: ops.quantize_rows_fp8(x), lambda: _in_fp8(x))
    yield case("gelu_fp8", (x,), lambda: ops.gelu_fp8(x), lambda: _in_fp8(F.gelu(x, approximate="tanh")))
    yield case(
        "norm_affine_fp8",
        (x, shift, scale),
        lambda: ops.norm_affine_fp8(x, shift, scale, EPS),
        lambda: _in_fp8(_normed(x) * scale + shift),
    )
    yield case(
        "residual_norm_fp8",
        (x, update, gate, shift, scale),
        lambda: ops.residual_norm_fp8(x, update, gate, shift, scale, EPS),
        eager_residual,
    )


def _normed(y: Tensor) -> Tensor:
    return F.layer_norm(y, (y.shape[-1],), eps=EPS)


def _pairs_rotated(x: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    pairs = F.rms_norm(x, x.shape[-1:], weight, EPS).float().unflatten(-1, (-1, table.shape[-1], 2))
    turned = torch.view_as_complex(pairs) * table[:, None, :]
    return torch.view_as_real(turned).flatten(-3).to(x.dtype)


def _halves_rotated(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    heads = F.rms_norm(x, x.shape[-1:], weight, EPS).float().unflatten(-1, (-1, cos.shape[-1]))
    first, second = heads.chunk(2, dim=-1)
    turned = heads * cos[:, None, :] + torch.cat((-second, first), dim=-1) * sin[:, None, :]
    result: Tensor = turned.flatten(-2).to(x.dtype)
    return result


def _in_fp8(x: Tensor) -> Results:
    """x [...,d] as float8 values and a scale per row."""
    exact = x.float()
    scale = exact.abs().amax(dim=-1, keepdim=True) / 448
    return (exact / scale).to(torch.float8_e4m3fn), scale


def _error(ours: Tensor, reference: Tensor) -> float:
    return float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())
