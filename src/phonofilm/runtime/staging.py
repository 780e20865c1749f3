"""Pinned memory on the way from files to the device, for weights that do not fit in host memory.

A file's pages are not pinned: that would keep them in memory. So the host reads them into one of two pinned pieces, from
which the device copies by itself, and waits only when it comes back to a piece that is still being copied from.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor

from phonofilm.runtime.backends import Backend, Queue
from phonofilm.runtime.slabs import host_memory

PIECES = 2


class Staging:
    """Two pieces of `nbytes`: while the device copies from one, the host reads into the other."""

    def __init__(self, backend: Backend, nbytes: int) -> None:
        self._backend = backend
        self._pieces: deque[tuple[Tensor, Any]] = deque()
        for _ in range(PIECES):
            piece = host_memory(nbytes)
            backend.pin(piece)
            self._pieces.append((piece, backend.event()))

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Read `source`, a map of a file, and give the copy queue a copy of it to `target`; both uint8 [n]."""
        piece, copied = self._pieces[0]
        self._pieces.rotate(-1)
        self._backend.finish(copied)
        read = piece[: source.numel()].copy_(source)
        self._backend.copy(read, target)
        self._backend.record(copied, Queue.COPY)

    def close(self) -> None:
        for piece, _ in self._pieces:
            self._backend.unpin(piece)
        self._pieces.clear()
