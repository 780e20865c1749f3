"""Rows in fp8 with a scale each, and GELU before that, in Triton: one program per row, the whole row in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from phonofilm.kernels.launching import warps


def launch_quantize(x: Tensor, values: Tensor, scale: Tensor, *, gelu: bool = False) -> None:
    """values float8_e4m3fn [...,d], scale float32 [...,1]: each row of x [...,d] over its largest magnitude / 448.

    `gelu`: of GELU (tanh approximation) of x, rounded to x's dtype.
    """
    width = x.shape[-1]
    with torch.cuda.device_of(x):
        quantize_row[(x.numel() // width,)](
            x.contiguous(),
            values,
            scale,
            width,
            GELU=gelu,
            BLOCK=triton.next_power_of_2(width),
            num_warps=warps(width),
        )


@triton.jit  # type: ignore[untyped-decorator]
def quantize_row(x, values, scale, width, GELU: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    value = tl.load(x + row * width + channel, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        # (1 + tanh u) / 2 is the sigmoid of 2u.
        bent = value * tl.sigmoid(1.5957691216057308 * (value + 0.044715 * value * value * value))
        value = bent.to(x.dtype.element_ty).to(tl.float32)
    store_quantized(value, values, scale, row, width, channel, inside)


@triton.jit
def store_quantized(value, values, scale, row, width, channel, inside):
    """value float32 [BLOCK], 0 outside: row `row` of `values` and `scale`."""
    # The smallest normal number: a row of zeros stays zero.
    step = tl.maximum(tl.max(tl.abs(tl.where(inside, value, 0.0)), axis=0) / 448.0, 1.1754944e-38)
    tl.store(scale + row, step)
    tl.store(values + row * width + channel, (value / step).to(values.dtype.element_ty), mask=inside)
