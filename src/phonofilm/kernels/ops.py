"""The fused operations as PyTorch operators: one pass over memory each, computed in float32, rounded once.

Being operators, they work on meta tensors (for the counters) and under torch.compile without Triton being installed.

Shapes: b batch, n tokens, d width, e head width. Results have x's dtype.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.library.custom_op("phonofilm::norm_modulate", mutates_args=())
def norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift. x [b,n,d]; shift, scale [b,1,d]."""
    from phonofilm.kernels import rows

    out = torch.empty_like(x)
    rows.norm(x, None, None, 1 + scale.float(), shift, eps, None, out)
    return out


@torch.library.custom_op("phonofilm::residual_norm", mutates_args=())
def residual_norm(
    x: Tensor, update: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """y = x + gate * update, and LayerNorm(y) * scale + shift. x, update [b,n,d]; gate, shift, scale [b or 1,1,d].

    The norm sees y as it is stored, rounded, like everything that reads it later.
    """
    from phonofilm.kernels import rows

    y, out = torch.empty_like(x), torch.empty_like(x)
    rows.norm(x, update, gate, scale, shift, eps, y, out)
    return y, out


@torch.library.custom_op("phonofilm::norm_rotate", mutates_args=())
def norm_rotate(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, table: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """RMSNorm, then RoPE over neighbouring channels, of both. q, k [b,n,d], weights [d], table complex64 [n,e/2]."""
    from phonofilm.kernels import rows

    turned = torch.empty_like(q), torch.empty_like(k)
    rows.rotate(q, k, q_weight, k_weight, table, eps, *turned)
    return turned


@torch.library.custom_op("phonofilm::linear_gelu", mutates_args=())
def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU (tanh approximation) of a linear layer. x [b,n,d], weight [f,d], bias [f] -> [b,n,f].

    On CUDA cuBLASLt applies it inside the matrix product, whose epilogue knows this approximation only.
    """
    if x.is_cuda:
        flat = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
        return flat.unflatten(0, x.shape[:-1])
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


@torch.library.custom_op("phonofilm::quantize_rows", mutates_args=())
def quantize_rows_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [n,d] -> float8_e4m3fn [n,d] and a scale per row, float32 [n,1]: x ~ values * scale."""
    from phonofilm.kernels import rows

    values = torch.empty_like(x, dtype=torch.float8_e4m3fn, memory_format=torch.contiguous_format)
    scale = x.new_empty(x.shape[0], 1, dtype=torch.float32)
    rows.quantize(x, values, scale)
    return values, scale


@norm_modulate.register_fake
def _(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


@residual_norm.register_fake
def _(
    x: Tensor, update: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


@norm_rotate.register_fake
def _(q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, table: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k)


@linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@quantize_rows_fp8.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.float8_e4m3fn), x.new_empty(x.shape[0], 1, dtype=torch.float32)
