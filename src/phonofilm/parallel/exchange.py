"""Exchanges between ranks that gradients go back through. The backward of each is its exact adjoint.

So when every rank of a group differentiates its own copy of one loss, the mean over the group of what a weight's copies
get is the gradient of that loss, whatever was shared and whatever was computed everywhere alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from phonofilm.parallel.mesh import Side


def gather(ours: Tensor, side: Side) -> Tensor:
    """Everyone's tensor of one shape, in the order of their places: [...] -> [size,...]."""
    gathered: Tensor = _Gather.apply(ours, side)
    return gathered


def deal(rows: Tensor, sent: Sequence[int], received: Sequence[int], side: Side) -> Tensor:
    """Runs of rows of `sent` lengths go to the ranks of `side`, and runs of `received` lengths come from them."""
    dealt: Tensor = _Deal.apply(rows, list(sent), list(received), side)
    return dealt


def first_ones(x: Tensor, side: Side) -> Tensor:
    """The copy of the first rank of `side`."""
    copy: Tensor = _FirstOnes.apply(x, side)
    return copy


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, ours: Tensor, side: Side) -> Tensor:
        ctx.side = side
        return torch.stack(side.gather(ours.contiguous()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        side: Side = ctx.side
        (every,) = gradients
        ours = every.new_empty(every.shape[1:])
        dist.reduce_scatter(ours, list(every.contiguous().unbind()), group=side.group)
        return ours, None


class _Deal(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], received: list[int], side: Side) -> Tensor:
        ctx.side, ctx.sent, ctx.received = side, sent, received
        return _all_to_all(rows, sent, received, side)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all(gradients[0], ctx.received, ctx.sent, ctx.side), None, None, None


class _FirstOnes(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, side: Side) -> Tensor:
        ctx.side = side
        copy = x.detach().clone().contiguous()
        dist.broadcast(copy, group=side.group, group_src=0)
        return copy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        side: Side = ctx.side
        total = gradients[0].clone().contiguous()
        dist.all_reduce(total, group=side.group)
        return total if side.place == 0 else total.zero_(), None


def _all_to_all(rows: Tensor, sent: list[int], received: list[int], side: Side) -> Tensor:
    here = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(here, rows.contiguous(), received, sent, group=side.group)
    return here
