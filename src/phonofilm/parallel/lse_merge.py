"""Attention over a part of the keys, how parts become the whole (weighted by their log-sum-exp), and their gradients.

Shapes: b batch, n queries, m keys, h heads, e head width, d = h*e.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.functional import pad


@dataclass(frozen=True)
class PartialAttention:
    """Softmax over some of the keys: `out` [b,n,h,e], and the logarithm of its denominator, `weight` [b,n,h] float32."""

    out: Tensor
    weight: Tensor

    def flat(self, dtype: torch.dtype) -> Tensor:
        """[b,n,d]."""
        return self.out.flatten(-2).to(dtype)


def partial_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> PartialAttention:
    """q [b,n,d], k and v [b,m,d]. By the kernel that PyTorch would choose itself; all but the plain one keep no scores."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    out, weight = _kernel(q, k, v)
    return PartialAttention(out.transpose(1, 2), weight.transpose(1, 2))


def merge_partials(parts: Iterable[PartialAttention]) -> PartialAttention:
    """The softmax over the keys of all parts together, accumulated in float32 and in the order given."""
    remaining = iter(parts)
    first = next(remaining)
    out, weight = first.out.float(), first.weight
    for part in remaining:
        together = torch.logaddexp(weight, part.weight)
        ours, theirs = (weight - together).exp(), (part.weight - together).exp()
        out = out * ours[..., None] + part.out * theirs[..., None]
        weight = together
    return PartialAttention(out, weight)


def partial_attention_gradients(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, weight: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What attending to these keys gives to the gradients of q [b,n,d], k and v [b,m,d].

    `out` [b,n,d] and `weight` [b,n,h] are the softmax's over the keys of all parts, `gradient` [b,n,d] is the result's.
    """
    gradient, q, k, v, out = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (gradient, q, k, v, out))
    to_q, to_k, to_v = _kernel_backward(gradient, q, k, v, out, weight.transpose(1, 2).contiguous())
    return to_q.transpose(1, 2).flatten(-2), to_k.transpose(1, 2).flatten(-2), to_v.transpose(1, 2).flatten(-2)


def _kernel(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """q [b,h,n,e], k and v [b,h,m,e] -> out [b,h,n,e], log-sum-exp [b,h,n] float32."""
    ops, n = torch.ops.aten, q.shape[2]
    match SDPBackend(torch._fused_sdp_choice(q, k, v)):
        case SDPBackend.FLASH_ATTENTION if q.device.type == "cpu":
            out, weight = ops._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        case SDPBackend.FLASH_ATTENTION:
            out, weight = ops._scaled_dot_product_flash_attention(q, k, v)[:2]
        case SDPBackend.CUDNN_ATTENTION:
            out, weight = ops._scaled_dot_product_cudnn_attention(q, k, v, None, True)[:2]
        case SDPBackend.EFFICIENT_ATTENTION:
            out, weight = ops._scaled_dot_product_efficient_attention(q, k, v, None, True)[:2]
        case _:
            scores = (q.float() @ k.float().transpose(-1, -2)) * q.shape[-1] ** -0.5
            weight = scores.logsumexp(-1)
            out = ((scores - weight[..., None]).exp() @ v.float()).to(q.dtype)
    # cuDNN adds a dimension of one at the end; the memory-efficient kernel rounds the queries up to a multiple of 32.
    return out, weight.reshape(*q.shape[:2], -1)[..., :n]


def _kernel_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, as the forward's kernels lay them out; weight [b,h,n] float32."""
    ops, n, m = torch.ops.aten, q.shape[2], k.shape[2]
    no_dropout = torch.empty((), dtype=torch.long, device=q.device)  # its random state, which nothing reads
    match SDPBackend(torch._fused_sdp_choice(q, k, v)):
        case SDPBackend.FLASH_ATTENTION if q.device.type == "cpu":
            found = ops._scaled_dot_product_flash_attention_for_cpu_backward(gradient, q, k, v, out, weight, 0.0, False)
        case SDPBackend.FLASH_ATTENTION:
            found = ops._scaled_dot_product_flash_attention_backward(
                gradient, q, k, v, out, weight, None, None, n, m, 0.0, False, no_dropout, no_dropout
            )
        case SDPBackend.CUDNN_ATTENTION:
            found = ops._scaled_dot_product_cudnn_attention_backward(
                gradient, q, k, v, out, weight[..., None], no_dropout, no_dropout, None, None, None, n, m, 0.0, False
            )
        case SDPBackend.EFFICIENT_ATTENTION:
            padded = pad(weight, (0, -n % 32), value=float("inf"))
            found = ops._scaled_dot_product_efficient_attention_backward(
                gradient, q, k, v, None, out, padded, no_dropout, no_dropout, 0.0, [True, True, True, False]
            )
        case _:
            found = _plain_backward(gradient.float(), q.float(), k.float(), v.float(), out.float(), weight)
    to_q, to_k, to_v = found[:3]
    return to_q.to(q.dtype), to_k.to(k.dtype), to_v.to(v.dtype)


def _plain_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with all scores in memory, in float32."""
    scale = q.shape[-1] ** -0.5
    shares = (scale * q @ k.transpose(-1, -2) - weight[..., None]).exp()
    to_scores = shares * (gradient @ v.transpose(-1, -2) - (gradient * out).sum(-1, keepdim=True)) * scale
    return to_scores @ k, to_scores.transpose(-1, -2) @ q, shares.transpose(-1, -2) @ gradient
