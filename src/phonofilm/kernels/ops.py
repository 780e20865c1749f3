"""The fused operations as PyTorch operators: one pass over memory each, computed in float32, rounded once.

Being operators, they work on meta tensors (for the counters) and under torch.compile without Triton being installed.

Shapes: b batch, n tokens, d width, e head width. Results are row-major whatever x's strides are, and have x's dtype; those
named fp8 are float8_e4m3fn with a float32 scale per row, of the result rounded to x's dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.library.custom_op("phonofilm::norm_affine", mutates_args=())
def norm_affine(x: Tensor, shift: Tensor, factor: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * factor + shift. x [b,n,d]; shift, factor [b or 1,1,d]."""
    from phonofilm.kernels import norms

    out = _rows_like(x)
    norms.launch_norm(x, None, None, factor, shift, eps, None, out)
    return out


@torch.library.custom_op("phonofilm::norm_affine_fp8", mutates_args=())
def norm_affine_fp8(x: Tensor, shift: Tensor, factor: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`norm_affine` in fp8 -> values [b,n,d], scale [b,n,1]."""
    from phonofilm.kernels import norms

    values, scale = _fp8_like(x)
    norms.launch_norm(x, None, None, factor, shift, eps, None, values, scale)
    return values, scale


@torch.library.custom_op("phonofilm::residual_norm", mutates_args=())
def residual_norm(
    x: Tensor, update: Tensor, gate: Tensor | None, shift: Tensor, factor: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """y = x + gate * update, and LayerNorm(y) * factor + shift. x, update [b,n,d]; gate, shift, factor [b or 1,1,d].

    The norm sees y as it is stored, rounded, like everything that reads it later.
    """
    from phonofilm.kernels import norms

    y, out = _rows_like(x), _rows_like(x)
    norms.launch_norm(x, update, gate, factor, shift, eps, y, out)
    return y, out


@torch.library.custom_op("phonofilm::residual_norm_fp8", mutates_args=())
def residual_norm_fp8(
    x: Tensor, update: Tensor, gate: Tensor | None, shift: Tensor, factor: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`residual_norm` with the norm's result in fp8 -> y [b,n,d], values [b,n,d], scale [b,n,1]."""
    from phonofilm.kernels import norms

    y, (values, scale) = _rows_like(x), _fp8_like(x)
    norms.launch_norm(x, update, gate, factor, shift, eps, y, values, scale)
    return y, values, scale


@torch.library.custom_op("phonofilm::norm_rotate", mutates_args=())
def norm_rotate(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, table: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """RMSNorm, then RoPE over neighbouring channels, of both. q, k [b,n,d], weights [d], table complex64 [n,e/2]."""
    from phonofilm.kernels import rotations

    turned = _rows_like(q), _rows_like(k)
    rotations.launch_rotate_pairs(q, k, q_weight, k_weight, table, eps, *turned)
    return turned


@torch.library.custom_op("phonofilm::norm_rotate_halves", mutates_args=())
def norm_rotate_halves(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """RMSNorm, then RoPE over a head's halves. x [b,n,d], weight [d]; cos, sin float32 [n,e], their halves alike."""
    from phonofilm.kernels import rotations

    turned = _rows_like(x)
    rotations.launch_rotate_halves(x, weight, cos, sin, eps, turned)
    return turned


@torch.library.custom_op("phonofilm::linear_gelu", mutates_args=())
def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU (tanh approximation) of a linear layer. x [b,n,d], weight [f,d], bias [f] -> [b,n,f].

    On CUDA cuBLASLt applies it inside the matrix product, whose epilogue knows this approximation only.
    """
    if x.is_cuda:
        flat = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
        result: Tensor = flat.unflatten(0, x.shape[:-1])
        return result
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


@torch.library.custom_op("phonofilm::quantize_rows_fp8", mutates_args=())
def quantize_rows_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [...,d] -> float8_e4m3fn [...,d] and a scale per row, float32 [...,1]: x ~ values * scale."""
    from phonofilm.kernels import quantization

    values, scale = _fp8_like(x)
    quantization.launch_quantize(x, values, scale)
    return values, scale


@torch.library.custom_op("phonofilm::gelu_fp8", mutates_args=())
def gelu_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """GELU (tanh approximation) of x [...,d] in fp8 -> values [...,d], scale [...,1]."""
    from phonofilm.kernels import quantization

    values, scale = _fp8_like(x)
    quantization.launch_quantize(x, values, scale, gelu=True)
    return values, scale


def _rows_like(x: Tensor) -> Tensor:
    """What a kernel writes row after row."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _fp8_like(x: Tensor) -> tuple[Tensor, Tensor]:
    values = torch.empty_like(x, dtype=torch.float8_e4m3fn, memory_format=torch.contiguous_format)
    return values, x.new_empty(*x.shape[:-1], 1, dtype=torch.float32)


@norm_affine.register_fake
def _(x: Tensor, shift: Tensor, factor: Tensor, eps: float) -> Tensor:
    return _rows_like(x)


@norm_affine_fp8.register_fake
def _(x: Tensor, shift: Tensor, factor: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _fp8_like(x)


@residual_norm.register_fake
def _(
    x: Tensor, update: Tensor, gate: Tensor | None, shift: Tensor, factor: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return _rows_like(x), _rows_like(x)


@residual_norm_fp8.register_fake
def _(
    x: Tensor, update: Tensor, gate: Tensor | None, shift: Tensor, factor: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _rows_like(x), *_fp8_like(x)


@norm_rotate.register_fake
def _(q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, table: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _rows_like(q), _rows_like(k)


@norm_rotate_halves.register_fake
def _(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    return _rows_like(x)


@linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@quantize_rows_fp8.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return _fp8_like(x)


@gelu_fp8.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return _fp8_like(x)
