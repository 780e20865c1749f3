"""Copies of a data set's clips without their constant offset, and a manifest of the whole set that uses them.

Only the sound is written anew; the picture is taken over packet by packet. The originals stay as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from phonofilm.data.findings import Finding
from phonofilm.data.manifest import NEW_MANIFEST, Item
from phonofilm.data.offset_findings import KIND
from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.media import Clip, read_audio, read_clip, save_clip


def repair(items: Sequence[Item], findings: Sequence[Sequence[Finding]], folder: Path) -> list[Path]:
    """Write a copy of each clip with a fixable finding into `folder`, and manifest.jsonl of all items; the copies' paths.

    `findings`: one list per item. In a copy both tracks begin together, as their timestamps say (late sound is led in by
    silence, early sound is cut), and the sound is moved by the estimated offset where there is one. A separate sound file
    becomes the copy's own track. Raises InputError for a folder that holds something already.
    """
    check_empty(folder)
    copies: dict[tuple[Path, Path | None], Path] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for item, about in zip(items, findings, strict=True):
        if (item.file, item.audio) in copies or not any(finding.fixable for finding in about):
            continue
        copy = folder / f"{len(copies) + 1:04d}-{item.file.stem}.mp4"
        late = sum(Fraction(str(f.value)) for f in about if f.fixable and f.kind == KIND)
        save_clip(_moved(item, Fraction(late)), copy, copy_video_from=item.file)
        copies[item.file, item.audio] = copy
    lines = [json.dumps(_row(item, copies.get((item.file, item.audio)), folder), ensure_ascii=False) for item in items]
    with replacing(folder / NEW_MANIFEST) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return list(copies.values())


def _moved(item: Item, late: Fraction) -> Clip:
    """The clip with its sound `late` seconds earlier; silence fills the end that comes free."""
    clip = read_clip(item.file)
    if item.audio is not None:
        wave, rate = read_audio(item.audio)
        clip = replace(clip, audio=wave, sampling_rate=rate)
    if clip.audio is None or clip.sampling_rate is None:
        return clip
    shift = round(late * clip.sampling_rate)
    wave = clip.audio[:, max(0, shift) :]
    return replace(clip, audio=np.pad(wave, ((0, 0), (max(0, -shift), 0)))).trimmed_to_picture()


def check_empty(folder: Path) -> None:
    """Raises InputError for a folder that holds something already, before anything long is begun."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder; fixed copies go into a new one")


def _row(item: Item, copy: Path | None, folder: Path) -> dict[str, object]:
    row: dict[str, object] = {"file": os.path.relpath(copy or item.file, folder)}
    if item.caption is not None:
        row["caption"] = item.caption
    if item.audio is not None and copy is None:
        row["audio"] = os.path.relpath(item.audio, folder)
    for name, value in (("start", item.start), ("end", item.end)):
        if value is not None:
            row[name] = str(value)
    if item.repeats != 1:
        row["repeats"] = item.repeats
    return row
