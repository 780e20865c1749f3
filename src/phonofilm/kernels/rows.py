"""The fused operations in Triton: one program per token, its whole row in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def norm(
    x: Tensor,
    update: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    y: Tensor | None,
    out: Tensor,
) -> None:
    """y = x + gate * update when there is an update, and out = LayerNorm(y or x) * scale + shift; as ops.py has the shapes."""
    batch, tokens, width = x.shape
    with torch.cuda.device_of(x):  # Triton launches on the current device, which need not be the tensor's
        _norm_row[(batch * tokens,)](
            x.contiguous(),
            x if update is None else update.contiguous(),
            x if gate is None else gate,
            scale,
            shift,
            out if y is None else y,
            out,
            tokens,
            width,
            0 if gate is None else _sample_stride(gate),
            _sample_stride(scale),
            _sample_stride(shift),
            eps,
            HAS_UPDATE=update is not None,
            HAS_GATE=gate is not None,
            BLOCK=triton.next_power_of_2(width),
            num_warps=_warps(width),
        )


def rotate(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, table: Tensor, eps: float, q_out: Tensor, k_out: Tensor
) -> None:
    """q_out, k_out: q and k [b,n,d], RMS-normalised and rotated by `table` complex64 [n,e/2]."""
    batch, tokens, width = q.shape
    with torch.cuda.device_of(q):
        _rotate_row[(batch * tokens,)](
            q.contiguous(),
            k.contiguous(),
            q_weight,
            k_weight,
            torch.view_as_real(table.contiguous()),
            q_out,
            k_out,
            tokens,
            width,
            table.shape[-1],
            eps,
            BLOCK=triton.next_power_of_2(width),
            num_warps=_warps(width),
        )


def quantize(x: Tensor, values: Tensor, scale: Tensor) -> None:
    """values float8_e4m3fn [n,d], scale float32 [n,1]: each row of x [n,d] over its largest magnitude / 448."""
    count, width = x.shape
    block = triton.next_power_of_2(width)
    with torch.cuda.device_of(x):
        _quantize_row[(count,)](x.contiguous(), values, scale, width, BLOCK=block, num_warps=_warps(width))


def _sample_stride(row: Tensor) -> int:
    """Elements from one sample's row to the next: 0 for a row that all samples share. row [b or 1,1,d] or [d]."""
    assert row.stride(-1) == 1, f"a row with stride {row.stride(-1)}; expected contiguous channels"
    return row.stride(0) if row.ndim == 3 and row.shape[0] > 1 else 0


def _warps(width: int) -> int:
    return 4 if width <= 2048 else 8 if width <= 8192 else 16


@triton.jit
def _norm_row(
    x, update, gate, scale, shift, y, out,
    tokens, width, gate_stride, scale_stride, shift_stride, eps,
    HAS_UPDATE: tl.constexpr, HAS_GATE: tl.constexpr, BLOCK: tl.constexpr,
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
    factor = tl.load(scale + sample * scale_stride + channel, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(shift + sample * shift_stride + channel, mask=inside, other=0.0).to(tl.float32)
    result = centred * inverse * factor + offset
    tl.store(out + row * width + channel, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_row(
    q, k, q_weight, k_weight, table, q_out, k_out, tokens, width, pairs_per_head, eps, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    pair = tl.arange(0, BLOCK // 2)
    inside = pair < width // 2
    turn = (row % tokens) * pairs_per_head * 2 + (pair % pairs_per_head) * 2
    cosine = tl.load(table + turn, mask=inside, other=0.0)
    sine = tl.load(table + turn + 1, mask=inside, other=0.0)
    _norm_and_turn(q + row * width, q_weight, q_out + row * width, cosine, sine, width, eps, BLOCK)
    _norm_and_turn(k + row * width, k_weight, k_out + row * width, cosine, sine, width, eps, BLOCK)


@triton.jit
def _norm_and_turn(x, weight, out, cosine, sine, width, eps, BLOCK: tl.constexpr):
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    value = tl.load(x + channel, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / width + eps)
    value = value * inverse * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    # Loaded as one contiguous row and taken apart in registers: two loads with stride 2 would each touch every line.
    even, odd = tl.split(tl.reshape(value, (BLOCK // 2, 2)))
    turned = tl.join(even * cosine - odd * sine, even * sine + odd * cosine)
    tl.store(out + channel, tl.reshape(turned, (BLOCK,)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _quantize_row(x, values, scale, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    value = tl.load(x + row * width + channel, mask=inside, other=0.0).to(tl.float32)
    # The smallest normal number: a row of zeros stays zero.
    step = tl.maximum(tl.max(tl.abs(value), axis=0) / 448.0, 1.1754944e-38)
    tl.store(scale + row, step)
    tl.store(values + row * width + channel, (value / step).to(values.dtype.element_ty), mask=inside)
