"""Attention whose keys lie on several ranks, forwards and backwards. No rank ever holds all of them.

Backwards needs the whole softmax's result and log-sum-exp only: with them every part of the keys gives its own share of
the gradients. Shapes: b batch, n queries, m keys here, h heads, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from phonofilm.parallel.lse_merge import (
    PartialAttention,
    merge_partials,
    partial_attention,
    partial_attention_gradients,
)
from phonofilm.parallel.mesh import MeshAxis


def attend_distributed_keys(q: Tensor, k: Tensor, v: Tensor, heads: int, axis: MeshAxis) -> Tensor:
    """q [b,n,d], alike on every rank, to everyone's k, v [b,m,d] -> [b,n,d], alike on every rank. Only results travel."""
    out: Tensor = _DistributedKeys.apply(q, k, v, heads, axis)  # type: ignore[no-untyped-call]
    return out


def ring_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, axis: MeshAxis, lengths: Sequence[int]) -> Tensor:
    """q [b,n,d] of this rank to everyone's k, v [b,m,d] -> [b,n,d]. `lengths`: how many keys each rank has.

    Keys and values go round; each turn attends to those that are here while the next are on their way.
    """
    out: Tensor = _Ring.apply(q, k, v, heads, axis, list(lengths))  # type: ignore[no-untyped-call]
    return out


class _DistributedKeys(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, axis: MeshAxis) -> Tensor:
        part = partial_attention(q, k, v, heads)
        # One exchange for both: the log-sum-exp travels as one more channel, in float32 like the rest.
        ours = torch.cat((part.out.float(), part.weight[..., None]), dim=-1).contiguous()
        whole = merge_partials(PartialAttention(one[..., :-1], one[..., -1]) for one in axis.gather(ours))
        out = whole.flat(q.dtype)
        ctx.heads, ctx.axis = heads, axis
        ctx.save_for_backward(q, k, v, out, whole.weight)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, weight = ctx.saved_tensors
        # Every rank's copy of the result is an output of these keys.
        gradient = gradients[0].clone().contiguous()
        dist.all_reduce(gradient, group=ctx.axis.group)
        return *partial_attention_gradients(gradient, q, k, v, out, weight, ctx.heads), None, None


class _Ring(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, axis: MeshAxis, lengths: list[int]) -> Tensor:
        whole = merge_partials(
            partial_attention(q, held[0], held[1], heads) for held in _rotating(torch.stack((k, v)), axis, lengths)
        )
        out = whole.flat(q.dtype)
        ctx.heads, ctx.axis, ctx.lengths = heads, axis, lengths
        ctx.save_for_backward(q, k, v, out, whole.weight)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, weight = ctx.saved_tensors
        axis, lengths = ctx.axis, ctx.lengths
        to_q = torch.zeros_like(q, dtype=torch.float32)
        sums: Tensor | None = None  # of the keys and values that are here, from the ranks that had them before
        for turn, held in enumerate(_rotating(torch.stack((k, v)), axis, lengths)):
            parts = partial_attention_gradients(gradients[0], q, held[0], held[1], out, weight, ctx.heads)
            to_q += parts[0]
            ours = torch.stack(parts[1:]).float()
            ours = ours if sums is None else ours + sums
            following = lengths[(axis.rank - turn - 1) % axis.size]
            sums = _RingTransfer(ours, following, axis).wait()
        assert sums is not None  # round the whole ring, and so our own keys' again
        return to_q.to(q.dtype), sums[0].to(k.dtype), sums[1].to(v.dtype), None, None, None


def _rotating(held: Tensor, axis: MeshAxis, lengths: Sequence[int]) -> Iterator[Tensor]:
    """Every ring member's keys and values, [2,b,m,d], beginning with our own."""
    for turn in range(1, axis.size):
        coming = _RingTransfer(held, lengths[(axis.rank - turn) % axis.size], axis)
        yield held
        held = coming.wait()
    yield held


class _RingTransfer:
    """A tensor [2,b,m,d] on its way to the next rank of the ring, while one with `length` keys comes from the one before."""

    def __init__(self, held: Tensor, length: int, axis: MeshAxis) -> None:
        after, before = (dist.get_global_rank(axis.group, (axis.rank + step) % axis.size) for step in (1, -1))
        self._held = held.contiguous()
        self._coming = held.new_empty(2, held.shape[1], length, held.shape[3])
        self._moving = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, self._held, after, group=axis.group),
                dist.P2POp(dist.irecv, self._coming, before, group=axis.group),
            ]
        )

    def wait(self) -> Tensor:
        for work in self._moving:
            work.wait()
        return self._coming
