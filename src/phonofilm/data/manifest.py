"""Which clips a data set holds and what is said about them: a folder with captions beside the clips, JSON, JSONL or CSV.

Nothing here opens a clip.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.untrusted import MAX_JSON_BYTES, file_fault, parse_fraction, parse_json, require_file, shown

CLIP_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif"})
MANIFEST_NAMES = tuple(f"{stem}{suffix}" for stem in ("metadata", "manifest") for suffix in (".json", ".jsonl", ".csv"))
# What other tools call our columns; the original's metadata.json says video_path.
ALIASES = {"video_path": "file", "video": "file", "path": "file", "text": "caption", "audio_path": "audio"}
NEW_MANIFEST = "manifest.jsonl"  # how manifests are called that we write
MOST_REPEATS = 1000
COLUMNS = ("file", "caption", "audio", "start", "end", "repeats")


@dataclass(frozen=True)
class Item:
    """One clip of a data set, or a stretch of one.

    caption: None where none was given. audio: a file whose sound replaces the clip's own. start, end: seconds after the
    clip's first frame; None means its ends. repeats: how often an epoch shows it. origin: where this was read, for
    messages.
    """

    file: Path
    caption: str | None
    audio: Path | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    repeats: int = 1
    origin: str = ""

    @property
    def name(self) -> str:
        """The clip, with its stretch where it is only a part."""
        if self.start is None and self.end is None:
            return self.file.name
        end = "" if self.end is None else f"{float(self.end):g}"
        return f"{self.file.name}[{float(self.start or 0):g}-{end}]"


def sidecar(item: Item) -> Path:
    """Where the caption of an item without one in its manifest stands: a.txt beside a.mp4, a@2.500-8.000.txt of a stretch."""
    if item.start is None and item.end is None:
        return item.file.with_suffix(".txt")
    end = "end" if item.end is None else f"{float(item.end):.3f}"
    return item.file.with_name(f"{item.file.stem}@{float(item.start or 0):.3f}-{end}.txt")


def read_manifest(path: str | Path) -> tuple[Item, ...]:
    """The clips of a folder or of a manifest file, in its order (a folder's: by name); of a clip, itself.

    In a folder, metadata.json (.jsonl, .csv) or manifest.json (.jsonl, .csv) decides; without one every clip in it and in
    its sub-folders belongs, captioned by the .txt file of the same name (see `sidecar`), as is a row without a caption. Paths in
    a manifest start from its folder.
    Raises InputError, with the line, for what cannot be read or names no file.
    """
    path = Path(path)
    if path.is_file():
        return _from_file(path)
    if not path.is_dir():
        raise InputError(f"no folder or manifest at {path}")
    found = [path / name for name in MANIFEST_NAMES if (path / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{path} has {' and '.join(f.name for f in found)}; name the one to use, or remove the others")
    return _from_file(found[0]) if found else _from_folder(path)


def _from_folder(folder: Path) -> tuple[Item, ...]:
    clips = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in CLIP_SUFFIXES and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    if not clips:
        raise InputError(f"{folder} holds no clips and no manifest; expected clip.mp4 with clip.txt, or metadata.json")
    return tuple(_written(Item(clip, None, origin=str(clip))) for clip in clips)


def _written(item: Item) -> Item:
    """The item with the caption from the text file beside its clip, where it has none of its own."""
    text = sidecar(item)
    if item.caption or not text.is_file():
        return item
    return replace(item, caption=_text(text).strip())


def _from_file(path: Path) -> tuple[Item, ...]:
    readers = {".json": _json_rows, ".jsonl": _jsonl_rows, ".csv": _csv_rows}
    if path.suffix.lower() in CLIP_SUFFIXES:
        return (_written(Item(path, None, origin=str(path))),)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no manifest and no clip; expected .json, .jsonl or .csv, or a folder of clips")
    items = tuple(_item(row, path.parent, where) for where, row in reader(path))
    if not items:
        raise InputError(f"{path} lists no clips")
    return items


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    rows = _parsed(_text(path), str(path))
    if not isinstance(rows, list):
        raise InputError(f'{path} holds a {type(rows).__name__}; expected a list of {{"video_path", "caption"}}')
    for number, row in enumerate(rows, start=1):
        yield f"{path}, entry {number}", row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    # by line feeds alone: a caption may hold other separators of lines
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", _parsed(line, str(path), number)


def _parsed(text: str, path: str, line: int | None = None) -> Any:
    """The value of a whole file's JSON, or of that line's. Raises InputError with the place."""
    try:
        return parse_json(text, unique_keys=True)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {line or error.lineno}: not JSON ({error.msg})") from None
    except ValueError as error:
        place = path if line is None else f"{path}, line {line}"
        raise InputError(f"{place}: {error}") from None


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise InputError(f"{where}: more values than columns; put captions with commas in quotes")
            # An empty cell says nothing, but an empty caption is one.
            yield where, {key: value for key, value in row.items() if value or ALIASES.get(key, key) == "caption"}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def _item(row: Any, folder: Path, where: str) -> Item:
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: {shown(repr(row))} is not an object with file and caption")
    values: dict[str, Any] = {}
    for key, value in row.items():
        column = ALIASES.get(key, key)
        if column not in COLUMNS:
            raise InputError(f"{where}: unknown column {shown(repr(key))}; known are {', '.join(COLUMNS)}")
        if column in values:
            raise InputError(f"{where}: {column} is given twice, the second time as {key!r}")
        values[column] = value
    start, end = (_seconds(values.get(name), name, where) for name in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise InputError(f"{where}: end {float(end):g} is not after start {float(start or 0):g}")
    file = _path(values.get("file"), "file", folder, where)
    if file is None:
        raise InputError(f"{where}: no file is named; expected a column file (or video_path)")
    item = Item(
        file=file,
        caption=_caption(values.get("caption"), where),
        audio=_path(values.get("audio"), "audio", folder, where),
        start=start,
        end=end,
        repeats=_repeats(values.get("repeats", 1), where),
        origin=where,
    )
    return _written(item)


def _caption(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{where}: caption {shown(repr(value))} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: caption {shown(repr(value))} holds half of a character (a lone surrogate)"
        ) from None
    return value.strip()


def _path(value: Any, name: str, folder: Path, where: str) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {name} {shown(repr(value))} is not a path")
    path = folder / value
    fault = file_fault(path)
    if fault is not None:
        raise InputError(f"{where}: no {name} at {shown(path)}: {fault}")
    return path


def _seconds(value: Any, name: str, where: str) -> Fraction | None:
    if value is None:
        return None
    try:
        seconds = parse_fraction(str(value))
    except ValueError:
        raise InputError(f"{where}: {name} {shown(repr(value))} is not a number of seconds") from None
    if seconds < 0:
        raise InputError(f"{where}: {name} {value} is before the clip's first frame; use 0 or more seconds")
    return seconds


def _repeats(value: Any, where: str) -> int:
    text = str(value)
    if not text.isdecimal() or len(text) > len(str(MOST_REPEATS)) or not 1 <= int(text) <= MOST_REPEATS:
        raise InputError(
            f"{where}: repeats {shown(repr(value))} is not a whole number from 1 to {MOST_REPEATS}; leave a clip out by its line"
        )
    return int(text)


def _text(path: Path) -> str:
    require_file(path)
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise InputError(f"{shown(path)} has {size:,} bytes; at most {MAX_JSON_BYTES:,} are read")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
