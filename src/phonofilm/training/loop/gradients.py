"""Gradients of an update: averaged over processes, and clipped by their norm, whether weights are whole or in shards.

They are averaged here and not by a wrapper around the model: parameters without a gradient (the expert that rests, a
bridge that is cut in one process's clips only) and weights that wait on the host are no special cases that way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn

from phonofilm.parallel.sharded_tensors import is_sharded, local_part
from phonofilm.training.task.interface import TaskLoss

CHUNK = 2**25  # numbers sent at once


def average_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Put the mean over all processes into every gradient; one that only some processes have counts as 0 in the others.

    Gradients of sharded weights are that already: FSDP makes them so, shard by shard.
    """
    if accelerator.num_processes == 1:
        return
    parameters = [parameter for parameter in parameters if not is_sharded(parameter)]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=accelerator.device)
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    gradients = []
    for parameter, somewhere in zip(parameters, there.tolist(), strict=True):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for chunk in _chunks(gradients):
        flat = torch.cat([gradient.flatten() for gradient in chunk])
        distributed.all_reduce(flat)
        flat /= accelerator.num_processes
        parts = flat.split([gradient.numel() for gradient in chunk])
        torch._foreach_copy_(chunk, [part.view_as(g) for part, g in zip(parts, chunk, strict=True)])


def _chunks(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    chunk: list[Tensor] = []
    for gradient in gradients:
        if chunk and (sum(g.numel() for g in chunk) + gradient.numel() > CHUNK or gradient.dtype != chunk[0].dtype):
            yield chunk
            chunk = []
        chunk.append(gradient)
    if chunk:
        yield chunk


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, accelerator: Accelerator) -> Tensor:
    """Scale all gradients so that their norm over whole tensors and everyone's parts is at most `limit`. Returns the norm."""
    parameters = list(parameters)
    cut = [local_part(p.grad) for p in parameters if p.grad is not None and is_sharded(p.grad)]
    if not any(map(is_sharded, parameters)):
        norm = accelerator.clip_grad_norm_(parameters, limit)
        assert norm is not None
        result: Tensor = norm
        return result
    whole = [p.grad for p in parameters if p.grad is not None and not is_sharded(p.grad)]
    square = _square(cut, accelerator.device)
    distributed.all_reduce(square)
    norm = (square + _square(whole, accelerator.device)).sqrt()
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in cut + whole:
        gradient.mul_(factor)
    return norm


def _square(gradients: list[Tensor], device: torch.device) -> Tensor:
    """The sum of their squares, float32."""
    norms = [gradient.float().norm() for gradient in gradients]
    return torch.stack(norms).square().sum() if norms else torch.zeros((), device=device)


def describe_not_finite(step: int, losses: Sequence[TaskLoss]) -> str:
    """What to say of an update with NaN or infinite gradients: which clips it was, of all processes. All call it."""
    bad = [loss for loss in losses if not math.isfinite(float(loss.total))]
    clips = sorted({name for loss in bad for name in loss.clips})
    clips = sorted({name for names in gather_object([clips]) for name in names})
    if clips:
        return (
            f"update {step + 1}: the loss of {', '.join(clips)} is not finite; look at these clips (phonofilm data doctor); "
            "if nothing is wrong with them, lower optimizer.lr and go on from the last checkpoint with --resume"
        )
    return (
        f"update {step + 1}: the gradients are not finite though the losses are; lower optimizer.lr, or use precision=no, "
        "and go on from the last checkpoint with --resume"
    )
