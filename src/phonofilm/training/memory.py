"""How much memory a block needs at its worst, and what the process holds: on a GPU asked of its allocator, on a CPU counted."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Peak:
    """Most bytes that were alive at once in the block, of those made in it; known when the block is over."""

    nbytes: int = 0


@contextmanager
def peak_of(device: torch.device) -> Iterator[Peak]:
    """Measure the block inside. On a CPU every operation is looked at, so nothing should be timed in it."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.nbytes = torch.cuda.max_memory_allocated(device) - before
        return
    counter = _LiveBytes(device)
    with counter:
        yield peak
    peak.nbytes = counter.peak


class _LiveBytes(TorchDispatchMode):
    """Notes the storages that operations make, forward and backward, until they die."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.device.type == self.device.type]
        fresh = [t.untyped_storage() for t in made if t.untyped_storage()._cdata not in given]
        if fresh:
            self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
            self._alive |= {storage._cdata: (StorageWeakRef(storage), storage.nbytes()) for storage in fresh}
            self.peak = max(self.peak, sum(nbytes for _, nbytes in self._alive.values()))
        return result


def held(device: torch.device) -> int:
    """Bytes that are in use now: allocated on a GPU; on a CPU resident, with what malloc has kept given back first."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return resident_bytes()


def resident_bytes() -> int:
    """The process's resident memory, without freed memory that malloc still keeps (as far as the C library lets it go)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most resident memory this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
