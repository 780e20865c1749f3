"""The original MOVA's video block as a sequence of operations, written from its description, to be counted beside ours.

Same parameters and same result as `phonofilm.models.layers.Block`; what differs is how it gets there: positions are
applied in complex128, gates and residuals are two operations. Its modulation runs under torch.compile there, so it is
one pass here too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from phonofilm.models.layers import Attention, Block, KeysValues


class OriginalBlock(Block):
    """x [b,n,d], modulation [b,6,d], rope complex128 [n,e/2], text [b,l,d] -> [b,n,d]."""

    def forward(
        self, x: Tensor, modulation: Tensor, rope: Tensor, text: Tensor | KeysValues, text_bias: Tensor | None = None
    ) -> Tensor:
        assert isinstance(text, Tensor), "the original keeps no keys and values of a text"
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation.to(modulation.dtype) + modulation).chunk(6, 1)
        heard = _self_attention(self.self_attn, _compiled_modulate(self.norm1(x), shift1, scale1), rope)
        x = x + gate1 * heard
        del heard  # an argument there, not a name: gone once the gate has run
        x = x + _text_attention(self.cross_attn, self.norm3(x), text)
        result: Tensor = x + gate2 * self.ffn(_compiled_modulate(self.norm2(x), shift2, scale2))
        return result


def _compiled_modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def _self_attention(module: Attention, x: Tensor, rope: Tensor) -> Tensor:
    q = module.norm_q(module.q(x))
    k = module.norm_k(module.k(x))
    v = module.v(x)
    q = _rotate(q, rope)
    k = _rotate(k, rope)
    result: Tensor = module.o(_attention(q, k, v, module.heads))
    return result


def _text_attention(module: Attention, x: Tensor, text: Tensor) -> Tensor:
    q = module.norm_q(module.q(x))
    k = module.norm_k(module.k(text))
    result: Tensor = module.o(_attention(q, k, module.v(text), module.heads))
    return result


def _rotate(x: Tensor, rope: Tensor) -> Tensor:
    heads = x.unflatten(-1, (-1, 2 * rope.shape[-1]))
    turned = torch.view_as_complex(heads.to(torch.float64).unflatten(-1, (-1, 2))) * rope[:, None, :]
    return torch.view_as_real(turned).flatten(2).to(x.dtype)


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
