"""RMSNorm and rotary positions of queries and keys, in Triton: one program per token, its whole row in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from phonofilm.kernels.launching import warps


def launch_rotate_pairs(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, table: Tensor, eps: float, q_out: Tensor, k_out: Tensor
) -> None:
    """q_out, k_out: q and k [b,n,d], RMS-normalised and rotated by `table` complex64 [n,e/2]; neighbours are pairs."""
    batch, tokens, width = q.shape
    with torch.cuda.device_of(q):
        rotate_pairs_row[(batch * tokens,)](
            q.contiguous(),
            k.contiguous(),
            q_weight,
            k_weight,
            torch.view_as_real(table.contiguous()),
            q_out,
            k_out,
            tokens,
            width,
            eps,
            HEAD=2 * table.shape[-1],
            BLOCK=triton.next_power_of_2(width),
            num_warps=warps(width),
        )


def launch_rotate_halves(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float, out: Tensor) -> None:
    """out: x [b,n,d], RMS-normalised and rotated by cos, sin float32 [n,e]; a head's halves are pairs.

    The tables hold every angle twice, once for each half: only the first is read.
    """
    batch, tokens, width = x.shape
    head = cos.shape[-1]
    with torch.cuda.device_of(x):
        rotate_halves_row[(batch * tokens,)](
            x.contiguous(),
            weight,
            cos.contiguous(),
            sin.contiguous(),
            out,
            tokens,
            width,
            eps,
            HALF=head // 2,
            BLOCK=triton.next_power_of_2(width // 2),
            num_warps=warps(width),
        )


@triton.jit  # type: ignore[untyped-decorator]
def rotate_pairs_row(
    q, k, q_weight, k_weight, table, q_out, k_out, tokens, width, eps, HEAD: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    # Loaded as one contiguous row and taken apart in registers: two loads with stride 2 would each touch every line.
    turn = tl.load(table + (row % tokens) * HEAD + channel % HEAD, mask=channel < width, other=0.0)
    cosine, sine = tl.split(tl.reshape(turn, (BLOCK // 2, 2)))
    norm_and_rotate_pairs(q + row * width, q_weight, q_out + row * width, cosine, sine, width, eps, BLOCK)
    norm_and_rotate_pairs(k + row * width, k_weight, k_out + row * width, cosine, sine, width, eps, BLOCK)


@triton.jit  # type: ignore[untyped-decorator]
def norm_and_rotate_pairs(x, weight, out, cosine, sine, width, eps, BLOCK: tl.constexpr):
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    value = tl.load(x + channel, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / width + eps)
    value = value * inverse * tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    even, odd = tl.split(tl.reshape(value, (BLOCK // 2, 2)))
    turned = tl.join(even * cosine - odd * sine, even * sine + odd * cosine)
    tl.store(out + channel, tl.reshape(turned, (BLOCK,)).to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def rotate_halves_row(
    x, weight, cos, sin, out, tokens, width, eps, HALF: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    pair = tl.arange(0, BLOCK)
    inside = pair < width // 2
    # A head's halves are runs of HALF channels, so both loads are as wide as a load of the whole row.
    first = pair // HALF * (2 * HALF) + pair % HALF
    second = first + HALF
    one = tl.load(x + row * width + first, mask=inside, other=0.0).to(tl.float32)
    two = tl.load(x + row * width + second, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(one * one + two * two, axis=0) / width + eps)
    one = one * inverse * tl.load(weight + first, mask=inside, other=0.0).to(tl.float32)
    two = two * inverse * tl.load(weight + second, mask=inside, other=0.0).to(tl.float32)
    turn = (row % tokens) * 2 * HALF + pair % HALF
    cosine = tl.load(cos + turn, mask=inside, other=0.0)
    sine = tl.load(sin + turn, mask=inside, other=0.0)
    tl.store(out + row * width + first, (one * cosine - two * sine).to(out.dtype.element_ty), mask=inside)
    tl.store(out + row * width + second, (two * cosine + one * sine).to(out.dtype.element_ty), mask=inside)
