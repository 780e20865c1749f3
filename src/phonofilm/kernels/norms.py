"""LayerNorm with what stands before and after it, in Triton: one program per token, its whole row in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from phonofilm.kernels.launching import sample_stride, warps
from phonofilm.kernels.quantization import store_quantized


def launch_norm(
    x: Tensor,
    update: Tensor | None,
    gate: Tensor | None,
    factor: Tensor,
    shift: Tensor,
    eps: float,
    y: Tensor | None,
    out: Tensor,
    out_scale: Tensor | None = None,
) -> None:
    """y = x + gate * update when there is an update, and out = LayerNorm(y or x) * factor + shift; as ops.py has the shapes.

    With `out_scale`, float32 [b,n,1], `out` is float8_e4m3fn: the same, rounded to x's dtype, over each row's scale.
    """
    batch, tokens, width = x.shape
    with torch.cuda.device_of(x):  # Triton launches on the current device, which need not be the tensor's
        norm_row[(batch * tokens,)](
            x.contiguous(),
            x if update is None else update.contiguous(),
            x if gate is None else gate,
            factor,
            shift,
            x if y is None else y,
            out,
            shift if out_scale is None else out_scale,
            tokens,
            width,
            0 if gate is None else sample_stride(gate),
            sample_stride(factor),
            sample_stride(shift),
            eps,
            HAS_UPDATE=update is not None,
            HAS_GATE=gate is not None,
            QUANTIZES=out_scale is not None,
            BLOCK=triton.next_power_of_2(width),
            num_warps=warps(width),
        )


@triton.jit  # type: ignore[untyped-decorator]
def norm_row(
    x, update, gate, factor, shift, y, out, out_scale,
    tokens, width, gate_stride, factor_stride, shift_stride, eps,
    HAS_UPDATE: tl.constexpr, HAS_GATE: tl.constexpr, QUANTIZES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # rows times width passes 2^31 at 720p
    sample = row // tokens
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    value = tl.load(x + row * width + channel, mask=inside, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        added = tl.load(update + row * width + channel, mask=inside, other=0.0).to(tl.float32)
        if HAS_GATE:
            added *= tl.load(gate + sample * gate_stride + channel, mask=inside, other=0.0).to(tl.float32)
        rounded = (value + added).to(y.dtype.element_ty)
        tl.store(y + row * width + channel, rounded, mask=inside)
        value = rounded.to(tl.float32)
    mean = tl.sum(value, axis=0) / width
    centred = tl.where(inside, value - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / width + eps)
    multiplier = tl.load(factor + sample * factor_stride + channel, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(shift + sample * shift_stride + channel, mask=inside, other=0.0).to(tl.float32)
    result = centred * inverse * multiplier + offset
    if QUANTIZES:
        store_quantized(result.to(x.dtype.element_ty).to(tl.float32), out, out_scale, row, width, channel, inside)
    else:
        tl.store(out + row * width + channel, result.to(out.dtype.element_ty), mask=inside)
