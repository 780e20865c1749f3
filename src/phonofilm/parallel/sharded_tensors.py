"""Tensors of which every process holds a shard: a DTensor split by rows over all processes, as FSDP2 makes it.

Whole tensors pass through here unchanged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor
from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a shard of it only."""
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


@contextmanager
def without_view_warnings() -> Iterator[None]:
    """A block in which FSDP does not warn of outputs that are views, lest they are changed in place: no layer's is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        yield
