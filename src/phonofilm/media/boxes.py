"""The few boxes of an mp4 file that say how long a track is presented; everything else in the file is libav's work."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from phonofilm.errors import MediaError

_NESTED = (b"moov", b"trak", b"edts", b"mdia")


@dataclass(frozen=True)
class _Field:
    """A number inside the movie header: where it lies and whether it has 4 or 8 bytes."""

    offset: int
    wide: bool

    def read(self, data: bytearray) -> int:
        return int(struct.unpack_from(">Q" if self.wide else ">I", data, self.offset)[0])

    def write(self, data: bytearray, value: int) -> None:
        struct.pack_into(">Q" if self.wide else ">I", data, self.offset, value)


def end_picture_at(path: Path, seconds: Fraction) -> None:
    """Shorten the presentation of the picture track (its edit list) to `seconds`; its packets stay as they are.

    Needed where a copied track is cut in front of frames that earlier ones are predicted from.
    """
    with path.open("r+b") as file:
        start, size = _movie_box(path)
        file.seek(start)
        movie = bytearray(file.read(size))
        _shorten(movie, seconds)
        file.seek(start)
        file.write(movie)


def _shorten(movie: bytearray, seconds: Fraction) -> None:
    boxes = {kind: (body, end) for kind, body, end in _boxes(movie, 8, len(movie)) if kind == b"mvhd"}
    header = boxes[b"mvhd"][0]
    scale = struct.unpack_from(">I", movie, header + (20 if movie[header] else 12))[0]
    length = int(seconds * scale)
    longest = 0
    for kind, body, end in _boxes(movie, 8, len(movie)):
        if kind != b"trak":
            continue
        inner = {name: at for name, at, _ in _deep(movie, body, end)}
        wide = bool(movie[inner[b"tkhd"]])
        duration = _Field(inner[b"tkhd"] + (28 if wide else 20), wide)
        is_picture = movie[inner[b"hdlr"] + 8 : inner[b"hdlr"] + 12] == b"vide"
        if is_picture and b"elst" in inner and duration.read(movie) > length:
            _shorten_edit(movie, inner[b"elst"], duration.read(movie) - length)
            duration.write(movie, length)
        longest = max(longest, duration.read(movie))
    _Field(header + (24 if movie[header] else 16), bool(movie[header])).write(movie, longest)


def _shorten_edit(movie: bytearray, at: int, excess: int) -> None:
    """Take `excess` from the last entry of the edit list (the one that plays the track)."""
    wide = bool(movie[at])
    count = struct.unpack_from(">I", movie, at + 4)[0]
    last = _Field(at + 8 + (count - 1) * (20 if wide else 12), wide)
    last.write(movie, last.read(movie) - excess)


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte of the body, first byte after) of each box from start to end."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8:
            return
        yield kind, start + 8, start + size
        start += size


def _deep(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for kind, body, after in _boxes(data, start, end):
        yield kind, body, after
        if kind in _NESTED:
            yield from _deep(data, body, after)


def _movie_box(path: Path) -> tuple[int, int]:
    """Offset and size of the `moov` box."""
    position, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while position + 8 <= total:
            file.seek(position)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                size = struct.unpack(">Q", file.read(8))[0]
            if kind == b"moov":
                return position, size
            position += max(size, 8)
    raise MediaError(f"{path} has no movie header")
