"""What a safetensors file says of its tensors before the first of them. Needs no PyTorch."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import CheckpointError
from phonofilm.untrusted import file_fault, parse_json, shown

# The largest released shard has a header of 0.2 MB.
MAX_HEADER_BYTES = 16 * 2**20
MAX_DIMENSIONS = 8
# Bytes of one number, by its type as safetensors names it.
ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True)
class DeclaredTensor:
    """Where one tensor lies: bytes [start, start + nbytes) of its file, under the name `key`. dtype: as in ITEM_BYTES."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def read_declared(file: Path) -> list[DeclaredTensor]:
    """The tensors a safetensors file declares. Raises CheckpointError when it is truncated or inconsistent."""
    if (fault := file_fault(file)) is not None:
        raise CheckpointError(f"{file} cannot be read: {fault}")
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise CheckpointError(f"{file} is no safetensors file: it starts with no header length; download it again")
        if size < 8 + length:
            raise CheckpointError(f"{file} is truncated inside its header ({size} bytes); download it again")
        text = stream.read(length)
    try:
        header = parse_json(text)
        declared = [_tensor(key, value, 8 + length) for key, value in header.items() if key != "__metadata__"]
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} has a corrupt safetensors header ({error}); download it again") from error
    end = 8 + length
    for one in sorted(declared, key=lambda tensor: (tensor.start, tensor.nbytes)):
        if one.start != end:
            raise CheckpointError(
                f"{file} has a corrupt safetensors header ({one.key} is misplaced); download it again"
            )
        end += one.nbytes
    if size != end:
        state = "truncated" if size < end else "too long"
        raise CheckpointError(
            f"{file} is {state}: it has {size:,} bytes, its header declares {end:,}; download it again"
        )
    return declared


def _tensor(key: str, value: dict[str, Any], data_start: int) -> DeclaredTensor:
    dtype, shape = value["dtype"], tuple(value["shape"])
    first, last = value["data_offsets"]
    whole = all(type(number) is int and number >= 0 for number in (*shape, first, last))
    if not whole or len(shape) > MAX_DIMENSIONS or last - first != (nbytes := math.prod(shape) * ITEM_BYTES[dtype]):
        raise ValueError(f"{shown(key)} is declared as {shown(value)}")
    return DeclaredTensor(key, dtype, shape, data_start + first, nbytes)
