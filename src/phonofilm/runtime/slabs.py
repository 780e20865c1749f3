"""Host memory for streamed weights: one exact, page-aligned piece of memory that a group of parameters lives in as views."""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError

logger = logging.getLogger(__name__)
ALIGNMENT = 256
"""Bytes; what vectorised loads, copies and matrix kernels like best."""


@dataclass(frozen=True)
class Piece:
    """Where one tensor lies in a slab: `offset` in bytes, a multiple of ALIGNMENT."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class SlabLayout:
    """The places of several tensors in one buffer of `nbytes`, a multiple of ALIGNMENT. Needs no memory to be made."""

    pieces: tuple[Piece, ...]
    nbytes: int

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> SlabLayout:
        pieces, end = [], 0
        for tensor in tensors:
            piece = Piece(end, tensor.shape, tensor.dtype)
            pieces.append(piece)
            end = aligned(end + piece.nbytes)
        return cls(tuple(pieces), end)

    @property
    def pinned_bytes(self) -> int:
        """What registering such a slab pins: whole pages."""
        return aligned(self.nbytes, mmap.PAGESIZE)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """The tensors that lie in `buffer` (uint8, at least `nbytes` long), sharing its memory."""
        return [
            buffer[piece.offset : piece.offset + piece.nbytes].view(piece.dtype).view(piece.shape)
            for piece in self.pieces
        ]


class HostSlab:
    """Parameters that live in one slab of host memory, each a view of it, so changing one changes what is streamed.

    The memory lives as long as a parameter or `buffer` uses it.

    Args:
        buffer: memory in which the parameters lie already, by `SlabLayout.of(parameters)`; None moves them into some.
        on_disk: `buffer` is a map of a file, which no device can copy from by itself.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], buffer: Tensor | None = None, *, on_disk: bool = False
    ) -> None:
        for parameter in parameters:
            if type(parameter.data) is not Tensor or parameter.device.type != "cpu":
                raise InputError(
                    f"a {type(parameter.data).__name__} on {parameter.device} cannot be streamed; "
                    "expected plain tensors in host memory: load the model on the CPU and do not quantise it"
                )
        self.parameters = tuple(parameters)
        self.layout = SlabLayout.of(parameter.data for parameter in parameters)
        self.on_disk = on_disk
        if buffer is not None:
            self.buffer = buffer
            return
        self.buffer = host_memory(self.nbytes)
        for parameter, view in zip(parameters, self.layout.views(self.buffer), strict=True):
            view.copy_(parameter.data)
            parameter.data = view

    @property
    def nbytes(self) -> int:
        return self.layout.nbytes

    def bind(self, buffer: Tensor) -> None:
        """Point the parameters into `buffer`: a slot that holds a copy, or the slab's own `buffer`."""
        for parameter, view in zip(self.parameters, self.layout.views(buffer), strict=True):
            parameter.data = view


def host_memory(nbytes: int) -> Tensor:
    """uint8 [nbytes], zeros, page-aligned: an anonymous map of the exact size.

    PyTorch's pinned allocator would round the size up to a power of two. Asks for huge pages, of which there are 512 times
    fewer to fault in and to register with a driver.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, max(1, nbytes), flags=private)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError as error:  # a kernel built without them; the pages are small then, and nothing else differs
            logger.debug("no huge pages for %d bytes of host memory: %s", nbytes, error)
    return torch.frombuffer(memory, dtype=torch.uint8)


def aligned(nbytes: int, alignment: int = ALIGNMENT) -> int:
    """`nbytes` rounded up to a multiple of `alignment`."""
    return -(-nbytes // alignment) * alignment
