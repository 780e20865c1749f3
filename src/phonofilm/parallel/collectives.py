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

from phonofilm.parallel.mesh import MeshAxis


def all_gather(ours: Tensor, axis: MeshAxis) -> Tensor:
    """Everyone's tensor of one shape, in rank order: [...] -> [size,...]."""
    gathered: Tensor = _AllGather.apply(ours, axis)  # type: ignore[no-untyped-call]
    return gathered


def all_to_all(rows: Tensor, sent: Sequence[int], received: Sequence[int], axis: MeshAxis) -> Tensor:
    """Runs of rows of `sent` lengths go to the ranks of `axis`, and runs of `received` lengths come from them."""
    received_rows: Tensor = _AllToAll.apply(rows, list(sent), list(received), axis)  # type: ignore[no-untyped-call]
    return received_rows


def copy_of_first(x: Tensor, axis: MeshAxis) -> Tensor:
    """The copy of the first rank of `axis`."""
    copy: Tensor = _CopyOfFirst.apply(x, axis)  # type: ignore[no-untyped-call]
    return copy


class _AllGather(Function):
    @staticmethod
    def forward(ctx: Any, ours: Tensor, axis: MeshAxis) -> Tensor:
        ctx.axis = axis
        return torch.stack(axis.gather(ours.contiguous()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        axis: MeshAxis = ctx.axis
        (every,) = gradients
        ours = every.new_empty(every.shape[1:])
        dist.reduce_scatter(ours, list(every.contiguous().unbind()), group=axis.group)
        return ours, None


class _AllToAll(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], received: list[int], axis: MeshAxis) -> Tensor:
        ctx.axis, ctx.sent, ctx.received = axis, sent, received
        return _all_to_all(rows, sent, received, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all(gradients[0], ctx.received, ctx.sent, ctx.axis), None, None, None


class _CopyOfFirst(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis) -> Tensor:
        ctx.axis = axis
        copy = x.detach().clone().contiguous()
        dist.broadcast(copy, group=axis.group, group_src=0)
        return copy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        axis: MeshAxis = ctx.axis
        total = gradients[0].clone().contiguous()
        dist.all_reduce(total, group=axis.group)
        return total if axis.rank == 0 else total.zero_(), None


def _all_to_all(rows: Tensor, sent: list[int], received: list[int], axis: MeshAxis) -> Tensor:
    here = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(here, rows.contiguous(), received, sent, group=axis.group)
    return here
