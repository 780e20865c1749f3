"""How much memory a block needs at its worst, and what the process holds: on a GPU asked of its allocator, on a CPU counted."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
    """Measure the block inside. On a CPU every operation is looked at, so nothing should be timed in it.

    There it is the larger of what tensors take and of what the process grew by, where the system tells that (Linux):
    libraries need room too.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.nbytes = torch.cuda.max_memory_allocated(device) - before
        return
    before = bytes_in_use(device)
    has_record = _forget_peak()
    counter = LiveBytes(device)
    with counter:
        yield peak
    grown = _peak_since() - before if has_record else 0
    peak.nbytes = max(counter.peak, grown)


class LiveBytes(TorchDispatchMode):
    """Notes the storages that operations make, forward and backward, until they die."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.peak = 0
        self._noted: dict[int, tuple[StorageWeakRef, int]] = {}
        self._total = 0  # bytes of what is noted, dead or alive

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.device.type == self.device.type]
        if made:
            given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
            for storage in (tensor.untyped_storage() for tensor in made):
                if storage._cdata not in given:
                    self._note(storage)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        """The dead are looked for only when, counted in, they would make a new peak: seldom, and the peak is the same."""
        _, before = self._noted.get(storage._cdata, (None, 0))
        self._noted[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._total += storage.nbytes() - before
        if self._total > self.peak:
            self._noted = {key: entry for key, entry in self._noted.items() if not entry[0].expired()}
            self._total = sum(nbytes for _, nbytes in self._noted.values())
            self.peak = max(self.peak, self._total)


def bytes_in_use(device: torch.device) -> int:
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


def _forget_peak() -> bool:
    """Start the system's record of this process's peak anew. Whether it keeps one that can be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_since() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
