"""Safetensors: where each tensor of a component lies in its files, and reading it. Which files those are: checkpoint_files.py."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from phonofilm.errors import CheckpointError
from phonofilm.models.checkpoint_files import INDEX_SUFFIX, listed, read_json, weight_files
from phonofilm.models.tensor_header import read_declared

CHUNK_BYTES = 8 * 2**20

TENSOR_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: bytes [start, start + nbytes) of `file`, under the name `key`."""

    file: Path
    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    nbytes: int


def read_entries(folder: Path, stem: str) -> dict[str, TensorEntry]:
    """Every tensor of a component by its key, from the headers alone; no weights are read.

    Raises CheckpointError as `weight_files` and `read_declared` do, and when shards and index disagree.
    """
    entries: dict[str, TensorEntry] = {}
    for file in weight_files(folder, stem):
        for one in read_declared(file):
            if one.key in entries:
                raise CheckpointError(
                    f"{one.key} is in both {entries[one.key].file.name} and {file.name} of {folder}; keep one"
                )
            entries[one.key] = TensorEntry(file, one.key, TENSOR_DTYPES[one.dtype], one.shape, one.start, one.nbytes)
    index = folder / f"{stem}.safetensors{INDEX_SUFFIX}"
    if index.is_file():
        weight_map: dict[str, str] = read_json(index)["weight_map"]
        wrong = [key for key, name in weight_map.items() if key not in entries or entries[key].file.name != name]
        if wrong:
            raise CheckpointError(f"{index} places {listed(wrong)} in shards that do not hold them; download again")
    return entries


class TensorReader:
    """Reads the tensors of a component: each file is mapped once, and one small buffer serves all conversions.

    Raises CheckpointError when a file changed after its header was read.
    """

    def __init__(self) -> None:
        self._maps: dict[Path, mmap.mmap] = {}
        # One for all: a buffer per tensor would leave holes in the heap among the tensors that stay.
        self._buffer = torch.empty(CHUNK_BYTES, dtype=torch.uint8)

    def mapped(self, entry: TensorEntry) -> Tensor:
        """The tensor as a private map of its file: no byte is read until it is used, and a write copies its page.

        Each tensor has a storage of its own, which keeps the map alive; the file may be replaced, but not cut short.
        """
        if entry.nbytes == 0 or entry.start % entry.dtype.itemsize:
            return self.converted(entry, entry.dtype, torch.device("cpu"))
        if entry.file not in self._maps:
            with entry.file.open("rb") as stream:
                self._maps[entry.file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        pages = self._maps[entry.file]
        if len(pages) < entry.start + entry.nbytes:
            raise CheckpointError(
                f"{entry.file} ended before {entry.key}: it changed since it was checked; download it again"
            )
        count = entry.nbytes // entry.dtype.itemsize
        return torch.frombuffer(pages, dtype=entry.dtype, count=count, offset=entry.start).view(entry.shape)

    def converted(self, entry: TensorEntry, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The tensor in memory of its own, converted and moved a chunk at a time, so that no second copy ever exists."""
        target = torch.empty(entry.shape, dtype=dtype, device=device)
        flat = target.view(-1)
        step = CHUNK_BYTES // entry.dtype.itemsize
        with entry.file.open("rb") as stream:
            stream.seek(entry.start)
            for first in range(0, flat.numel(), step):
                count = min(step, flat.numel() - first)
                piece = self._buffer[: count * entry.dtype.itemsize]
                if stream.readinto(piece.numpy().data) != piece.numel():
                    raise CheckpointError(f"{entry.file} ended while {entry.key} was read; download it again")
                flat[first : first + count].copy_(piece.view(entry.dtype))
        return target
