"""Copies of a data set's clips without their constant offset, and a manifest of the whole set that uses them.

Only the sound is written anew; the picture is taken over packet by packet. The originals stay as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from phonofilm.data.findings import Finding
from phonofilm.data.manifest import Item
from phonofilm.errors import InputError
from phonofilm.media import read_clip, save_clip

MANIFEST = "manifest.jsonl"


def repair(items: Sequence[Item], findings: Sequence[Sequence[Finding]], folder: Path) -> list[Path]:
    """Write a copy of each clip with a fixable finding into `folder`, and manifest.jsonl of all items; the copies' paths.

    `findings`: one list per item. In a copy both tracks begin together, as their timestamps say: late sound is led in by
    silence, early sound is cut. Raises InputError for a folder that holds something already.
    """
    check_empty(folder)
    broken = dict.fromkeys(
        item.file for item, about in zip(items, findings, strict=True) if any(finding.fixable for finding in about)
    )
    copies = {file: folder / f"{number:04d}-{file.stem}.mp4" for number, file in enumerate(broken, start=1)}
    folder.mkdir(parents=True, exist_ok=True)
    for file, copy in copies.items():
        save_clip(read_clip(file), copy, copy_video_from=file)
    lines = [json.dumps(_row(item, copies.get(item.file, item.file), folder), ensure_ascii=False) for item in items]
    (folder / MANIFEST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return list(copies.values())


def check_empty(folder: Path) -> None:
    """Raises InputError for a folder that holds something already, before anything long is begun."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder; fixed copies go into a new one")


def _row(item: Item, file: Path, folder: Path) -> dict[str, object]:
    row: dict[str, object] = {"file": os.path.relpath(file, folder)}
    if item.caption is not None:
        row["caption"] = item.caption
    if item.audio is not None:
        row["audio"] = os.path.relpath(item.audio, folder)
    for name, value in (("start", item.start), ("end", item.end)):
        if value is not None:
            row[name] = str(value)
    if item.repeats != 1:
        row["repeats"] = item.repeats
    return row
