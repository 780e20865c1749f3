"""Rotary positions (RoPE): the table of angles, and the two ways of pairing a head's channels.

Shapes: b batch, n tokens, d width, e head width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

ROPE_THETA = 10000.0


def rope_table(positions: np.ndarray, channels: int, theta: float = ROPE_THETA) -> np.ndarray:
    """Rotations for `channels` neighbouring-pair channels at each position: complex64 [len(positions), channels/2].

    Computed in float64 on the host, then rounded: float32 phases would be off by 1e-4 far down a long axis.
    """
    frequencies = theta ** (-np.arange(0, channels, 2, dtype=np.float64) / channels)
    phase = np.asarray(positions, dtype=np.float64)[:, None] * frequencies[None, :]
    result: np.ndarray = np.exp(1j * phase).astype(np.complex64)
    return result


def rotate_pairs(x: Tensor, table: Tensor) -> Tensor:
    """RoPE over neighbouring channels. x [b,n,d], table complex64 [n,e/2] -> [b,n,d] in x's dtype.

    The complex product reads and writes each value once, in float32; spelled out in real arithmetic the same rotation
    moves 2.4 times the bytes.
    """
    if torch.compiler.is_compiling():  # which fuses real arithmetic, and nothing complex
        return _rotate_pairs_real(x, table)
    # In one expression: a name for the float32 copy would keep it alive (0.9 GB at 43,120 tokens) until the end.
    turned = torch.view_as_complex(x.float().unflatten(-1, (-1, table.shape[-1], 2))) * table[:, None, :]
    return torch.view_as_real(turned).flatten(-3).to(x.dtype)


def _rotate_pairs_real(x: Tensor, table: Tensor) -> Tensor:
    cosine, sine = torch.view_as_real(table)[:, None].unbind(-1)
    even, odd = x.float().unflatten(-1, (-1, table.shape[-1], 2)).unbind(-1)
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-3).to(x.dtype)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE that pairs the first half of each head with the second. x [b,n,d] -> [b,n,d] in x's dtype.

    cos, sin float32 [n,e]: every angle twice, once for each half; only the first is read. Rotated in float32, rounded once.
    """
    if torch.compiler.is_compiling():  # which fuses plain arithmetic, and differentiates it
        return _halves_rotated(x, cos, sin)
    rotated: Tensor = _RotateHalves.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return rotated


def _halves_rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    (first, second), (cosine, sine) = _halves(x, cos, sin)
    turned = torch.stack((first * cosine - second * sine, second * cosine + first * sine), dim=-2)
    return turned.flatten(-3).to(x.dtype)


class _RotateHalves(Function):
    """Half the bytes of plain arithmetic: sums of float32 products are written in x's dtype, which autograd cannot follow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        (first, second), (cosine, sine) = _halves(x, cos, sin)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        out_first, out_second = out.unflatten(-1, (-1, 2, cos.shape[-1] // 2)).unbind(-2)
        torch.addcmul(first * cosine, second, sine, value=-1, out=out_first)
        torch.addcmul(second * cosine, first, sine, out=out_second)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate_halves(gradients[0], cos, -sin), None, None  # the inverse of a rotation is its transpose


def _halves(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """Views of both halves of every head, [b,n,h,e/2], and their angles' cosines and sines [n,1,e/2]."""
    half = cos.shape[-1] // 2
    halves = x.unflatten(-1, (-1, 2, half)).unbind(-2)
    return halves, (cos[:, None, :half], sin[:, None, :half])
