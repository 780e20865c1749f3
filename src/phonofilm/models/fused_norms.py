"""Norms with what stands before them in one pass, in the form that the layers read which come next: plain, or fp8.

Shapes: b batch, n tokens, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from phonofilm.kernels import ops
from phonofilm.models.eight_bit_rows import Fp8Rows
from phonofilm.models.quantized import multiply_in_fp8


def norm_for(readers: Sequence[nn.Module], x: Tensor, shift: Tensor, factor: Tensor, eps: float) -> Tensor | Fp8Rows:
    """LayerNorm(x) * factor + shift. x [b,n,d]; shift, factor [b or 1,1,d]; `readers`: all layers that read it."""
    if multiply_in_fp8(readers, x.device):
        values, scale = ops.norm_affine_fp8(x, shift, factor, eps)
        return Fp8Rows(values, scale, x.dtype)
    result: Tensor | Fp8Rows = ops.norm_affine(x, shift, factor, eps)
    return result


def residual_norm_for(
    readers: Sequence[nn.Module],
    x: Tensor,
    update: Tensor,
    gate: Tensor | None,
    shift: Tensor,
    factor: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor | Fp8Rows]:
    """y = x + gate * update, and LayerNorm(y) * factor + shift for `readers`."""
    if multiply_in_fp8(readers, x.device):
        y, values, scale = ops.residual_norm_fp8(x, update, gate, shift, factor, eps)
        return y, Fp8Rows(values, scale, x.dtype)
    result: tuple[Tensor, Tensor | Fp8Rows] = ops.residual_norm(x, update, gate, shift, factor, eps)
    return result
