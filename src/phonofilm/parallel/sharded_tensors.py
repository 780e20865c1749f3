"""Weights of which every process holds a part: how the loop adds, averages, clips and saves them beside whole ones.

A part is a DTensor cut by rows over all processes, as FSDP2 makes it. Whole tensors pass through here unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it only."""
    return isinstance(tensor, DTensor)


def any_sharded(tensors: Mapping[str, Tensor]) -> bool:
    return any(is_sharded(tensor) for tensor in tensors.values())


def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of it, in the same memory and without gradient."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that this process holds of them."""
    return sum(part.numel() * part.element_size() for part in map(local_part, tensors))


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, accelerator: Accelerator) -> Tensor:
    """Scale all gradients so that their norm over whole tensors and everyone's parts is at most `limit`. Returns the norm."""
    parameters = list(parameters)
    cut = [local_part(p.grad) for p in parameters if p.grad is not None and is_sharded(p.grad)]
    if not any(map(is_sharded, parameters)):
        norm = accelerator.clip_grad_norm_(parameters, limit)
        assert norm is not None
        return norm
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
