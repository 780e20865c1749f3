"""The constant tensors of an ONNX file, without the onnx package: just as much of the format as holds them.

The file is a protocol buffer: fields of a number, a type and a value; the graph is field 7, a constant is its field 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phonofilm.errors import CheckpointError

GRAPH, CONSTANT = 7, 5
DIMENSION, KIND, FLOATS, NAME, RAW = 1, 2, 4, 8, 9  # of a constant
FLOAT32 = 1
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


def read_onnx_floats(path: Path) -> dict[str, Tensor]:
    """The float32 constants by name. Raises CheckpointError for a file that is not as ONNX has it."""
    found: dict[str, Tensor] = {}
    try:
        for number, graph in _fields(path.read_bytes()):
            for part, constant in _fields(graph) if number == GRAPH and isinstance(graph, bytes) else ():
                if part == CONSTANT and isinstance(constant, bytes):
                    found.update(_floats(list(_fields(constant))))
    except (IndexError, ValueError) as error:
        raise CheckpointError(f"{path} is no ONNX file, or damaged: {error}") from error
    return found


def _floats(parts: list[tuple[int, int | bytes]]) -> dict[str, Tensor]:
    """One constant by its name; empty for those of another type."""
    if (KIND, FLOAT32) not in parts:
        return {}
    (name,) = [value.decode() for number, value in parts if number == NAME and isinstance(value, bytes)]
    shape = [value for number, value in parts if number == DIMENSION and isinstance(value, int)]
    (data,) = [value for number, value in parts if number in (FLOATS, RAW) and isinstance(value, bytes)]
    return {name: torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy())}


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a message's fields: an int, or the bytes of anything longer."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if key & 7 == BYTES:
            size, at = _varint(message, at)
        elif key & 7 in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if key & 7 == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of type {key & 7} at byte {at}")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
