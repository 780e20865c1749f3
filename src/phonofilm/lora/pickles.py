"""`.pt` files that hold tensors by name: opened without running code, and without asking for more than the file holds."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phonofilm.errors import CheckpointError
from phonofilm.untrusted import file_fault, shown

# The pickle itself holds names and shapes; the numbers lie beside it in the archive.
MAX_PICKLE_BYTES = 16 * 2**20
MAX_DEPTH = 16
_BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError, struct.error),
)


def load_pickle(path: Path, *, old_formats: bool = False) -> dict[str, Any]:
    """A .pt file that holds a dictionary of tensors and plain values. Raises CheckpointError for anything else.

    A pickle can run code as it is opened; torch's restricted reader knows tensors and plain values only, and what it
    does not know is refused, as are archives that grow when they are unpacked and tensors larger than their file.

    Args:
        old_formats: also take what torch wrote before version 1.6, which is no archive, and numpy's numbers. Archives are
            mapped into memory, so that parts that are not used, such as an optimizer's state, are not read.
    """
    if (fault := file_fault(path)) is not None:
        raise CheckpointError(f"{path} cannot be read: {fault}")
    try:
        archive = not old_formats or zipfile.is_zipfile(path)
        if archive:
            _check_archive(path)
        with torch.serialization.safe_globals(_numpy_numbers() if old_formats else []):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive and old_formats)
        tensors = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(content))
    except _BROKEN as error:
        reason = shown(str(error).partition("\n")[0] or type(error).__name__)
        raise CheckpointError(
            f"{path} is refused: it is damaged, or a pickle with more in it than tensors, which could run code ({reason})"
        ) from error
    if tensors > path.stat().st_size:
        raise CheckpointError(f"{path} is refused: its tensors claim {tensors:,} bytes, more than the file holds")
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    return content


def _numpy_numbers() -> list[Any]:
    """What a pickled numpy number consists of; none of it runs anything."""
    kinds = {type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")}
    scalar = np.float64(0).__reduce__()[0]  # which versions before 2 know under another name
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _check_archive(path: Path) -> None:
    """torch writes archives in which everything is stored as it is. Raises ValueError for any other."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if packed := [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(
            f"{packed[0].filename} in it is compressed, to {packed[0].file_size:,} bytes; torch never does that"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its parts are larger than the file")
    if any(entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE_BYTES for entry in entries):
        raise ValueError(f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes")


def _tensors(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """Every tensor in it. Raises ValueError for one that is sparse, quantised or not in memory, and for deep nesting."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ValueError(f"it holds a tensor of the kind {value.layout}, {value.dtype} on {value.device}")
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int | float | bool | None):
                raise ValueError(f"it holds a dictionary with a {type(key).__name__} for a key")
            yield from _tensors(inner, depth + 1)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _tensors(inner, depth + 1)
