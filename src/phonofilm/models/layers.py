"""The parts both towers and the bridge are made of: norms, positions, the attention seam, the transformer block.

No knowledge of video or audio lives here, and nothing about devices, offloading or parallelism.

Shapes: b batch, n tokens, l text tokens, d width, h heads, e head width (d = h*e).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from phonofilm.kernels import ops
from phonofilm.kernels.choice import FusibleModule
from phonofilm.models.eight_bit_rows import Fp8Rows
from phonofilm.models.fused_norms import norm_for, residual_norm_for
from phonofilm.models.quantized import multiply_in_fp8, quantized_once
from phonofilm.models.rotary import ROPE_THETA, rotate_pairs


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention through diffusers' dispatch: the one seam where a backend is chosen.

    q [b,n,d], k and v [b,m,d] -> [b,n,d]. `bias` [b,m], when given, is added to every query's logits.
    """
    q, k, v = (t.unflatten(-1, (heads, -1)) for t in (q, k, v))
    mask = None if bias is None else bias[:, None, None, :].to(q.dtype)
    result: Tensor = dispatch_attention_fn(q, k, v, attn_mask=mask).flatten(-2)
    return result


def timestep_embedding(timesteps: Tensor | Sequence[float], channels: int) -> Tensor:
    """Sinusoids of the timesteps (0..1000), cosines first: float32 [b, channels] on the host.

    Evaluated in float64 by numpy: a float32 phase near 1000 rad is wrong in the fifth digit. Pass timesteps that live
    on the host; ones on a device are copied back, which waits for it.
    """
    values = timesteps.detach().cpu().numpy() if isinstance(timesteps, Tensor) else timesteps
    half = channels // 2
    frequencies = ROPE_THETA ** (-np.arange(half, dtype=np.float64) / half)
    phase = np.asarray(values, dtype=np.float64).reshape(-1, 1) * frequencies
    return torch.from_numpy(np.concatenate([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32))


class Float32Linear(nn.Linear):
    """A linear layer evaluated in float32 whatever dtype its weights are stored in (the time embedding needs it)."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), self.weight.float(), bias)


class Attention(FusibleModule):
    """Projections and norms of one attention. Queries come from width `dim`, keys and values from `kv_dim`.

    q and k are RMS-normalised over the whole width (not per head) before positions are applied.
    """

    # A runtime that deals the tokens over several devices gives the modules it concerns an `attend` of its own.
    attend: Callable[[Tensor, Tensor, Tensor, int], Tensor] = staticmethod(attention)

    def __init__(self, dim: int, heads: int, eps: float, kv_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.eps = eps
        kv_dim = dim if kv_dim is None else kv_dim
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(kv_dim, dim)
        self.v = nn.Linear(kv_dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)


class SelfAttention(Attention):
    """x [b,n,d], or the same in fp8, rope complex64 [n,e/2] -> [b,n,d]."""

    def forward(self, x: Tensor | Fp8Rows, rope: Tensor) -> Tensor:
        x = quantized_once(x, self.q, self.k, self.v)
        if self.fused:
            weights = self.norm_q.weight, self.norm_k.weight
            q, k = ops.norm_rotate(self.q(x), self.k(x), *weights, rope, self.eps)
        else:
            q = rotate_pairs(self.norm_q(self.q(x)), rope)
            k = rotate_pairs(self.norm_k(self.k(x)), rope)
        result: Tensor = self.o(self.attend(q, k, self.v(x), self.heads))
        return result


class KeysValues(NamedTuple):
    """A text as one layer attends to it: keys and values, both [b,l,d]."""

    keys: Tensor
    values: Tensor


class TextAttention(Attention):
    """x [b,n,d], text [b,l,d] (already embedded), bias [b,l] or None -> [b,n,d]. Padding is attended to, as trained.

    The text may come as its keys and values, which stay the same over all steps: they need `text_parameters` no more.
    """

    def keys_values(self, text: Tensor) -> KeysValues:
        read = quantized_once(text, self.k, self.v)
        return KeysValues(self.norm_k(self.k(read)), self.v(read))

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """The weights that nothing but `keys_values` uses."""
        for module in (self.k, self.norm_k, self.v):
            yield from module.parameters()

    def forward(self, x: Tensor | Fp8Rows, text: Tensor | KeysValues, bias: Tensor | None = None) -> Tensor:
        q = self.norm_q(self.q(x))
        keys, values = text if isinstance(text, KeysValues) else self.keys_values(text)
        result: Tensor = self.o(attention(q, keys, values, self.heads, bias))
        return result


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x*(1+scale) + shift in one pass. x [b,n,d]; shift, scale [b,1,d]."""
    return torch.addcmul(shift, x, 1 + scale)


class Block(FusibleModule):
    """One transformer block of either tower: self-attention, text attention and a feed-forward, time-modulated."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, eps: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, heads, eps)
        self.cross_attn = TextAttention(dim, heads, eps)
        self.norm1 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(
        self, x: Tensor, modulation: Tensor, rope: Tensor, text: Tensor | KeysValues, text_bias: Tensor | None
    ) -> Tensor:
        """x [b,n,d], modulation [b,6,d], rope complex64 [n,e/2], text as TextAttention takes it, text_bias -> [b,n,d]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation.to(modulation.dtype) + modulation).chunk(6, 1)
        if self.fused:
            return self._fused(x, (shift1, scale1, gate1, shift2, scale2, gate2), rope, text, text_bias)
        x = torch.addcmul(x, gate1, self.self_attn(modulate(self.norm1(x), shift1, scale1), rope))
        x = x + self.cross_attn(self.norm3(x), text, text_bias)
        return torch.addcmul(x, gate2, self.ffn(modulate(self.norm2(x), shift2, scale2)))

    def _fused(
        self,
        x: Tensor,
        modulation: tuple[Tensor, ...],
        rope: Tensor,
        text: Tensor | KeysValues,
        text_bias: Tensor | None,
    ) -> Tensor:
        """The same with fewer passes over memory, and nothing kept that is not needed any more. Equal up to rounding."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        attention, text_attention, (widen, gelu, narrow) = self.self_attn, self.cross_attn, self.ffn
        readers = attention.q, attention.k, attention.v
        update = attention(norm_for(readers, x, shift1, 1 + scale1.float(), self.norm1.eps), rope)
        weight, bias = self.norm3.weight[None, None], self.norm3.bias[None, None]
        x, normed = residual_norm_for([text_attention.q], x, update, gate1, bias, weight, self.norm3.eps)
        del update
        update = text_attention(normed, text, text_bias)
        x, normed = residual_norm_for([widen], x, update, None, shift2, 1 + scale2.float(), self.norm2.eps)
        del update
        # A layer that is quantised, or has an adapter around it, makes its product in its own way.
        if type(widen) is nn.Linear:
            hidden = ops.linear_gelu(normed, widen.weight, widen.bias)
        elif multiply_in_fp8([narrow], x.device):
            values, scale = ops.gelu_fp8(widen(normed))
            hidden = Fp8Rows(values, scale, x.dtype)
        else:
            hidden = gelu(widen(normed))
        del normed
        hidden = narrow(hidden)
        return torch.addcmul(x, gate2, hidden)


class Head(nn.Module):
    """The last layer of a tower: tokens [b,n,d] and the time embedding [b,d] -> [b,n,out_dim*prod(patch)]."""

    def __init__(self, dim: int, out_dim: int, patch_size: Sequence[int], eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.head = nn.Linear(dim, out_dim * math.prod(patch_size))
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.modulation.to(time.dtype) + time[:, None, :]).chunk(2, 1)
        result: Tensor = self.head(modulate(self.norm(x), shift, scale))
        return result
