"""Cutting long clips into scenes of a useful length: a manifest of stretches, or clips of their own. Detection: scenes.py.

The folder that is written holds scenes/KEY.json (what was found in one clip under one setting, so that an interrupted
run goes on), clips/ when clips are asked for, and manifest.jsonl, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from phonofilm.data.manifest import NEW_MANIFEST, Item
from phonofilm.data.probe import Facts, probe
from phonofilm.data.scenes import Stretch, pauses, scene_starts
from phonofilm.data.window_reading import separate_sound
from phonofilm.data.windows import stretch
from phonofilm.errors import InputError, MediaError
from phonofilm.files import replacing
from phonofilm.media import read_clip, save_clip
from phonofilm.untrusted import parse_fraction, read_json_file

SPLIT_FORMAT = 2  # to be raised whenever the same settings would give other scenes
INTO_PAUSE = Fraction(1, 10)  # seconds; a pause lasts at least twice as long
PAUSE_REACH = Fraction(1)  # seconds that a scene's edge may move to a pause
CRF = 10


@dataclass(frozen=True)
class SplitSettings:
    """shortest, longest: seconds of a scene; shorter ones are left out, longer ones divided (None: never). threshold: see
    `scene_starts`. at_pauses: edges move into pauses of the sound, inwards by at most a second, and divisions lie there.
    """

    shortest: Fraction = Fraction(2)
    longest: Fraction | None = Fraction(10)
    threshold: float = 3.0
    at_pauses: bool = False

    @classmethod
    def of(cls, shortest: float, longest: float, threshold: float, at_pauses: bool) -> SplitSettings:
        """From plain numbers; `longest` 0 is never."""
        return cls(Fraction(str(shortest)), Fraction(str(longest)) if longest else None, threshold, at_pauses)

    def __post_init__(self) -> None:
        if self.shortest <= 0 or (self.longest is not None and self.longest < 2 * self.shortest):
            raise InputError(
                f"scenes of {float(self.shortest):g} to {float(self.longest or 0):g} s cannot be made; the shortest must "
                "be above 0 and the longest at least twice as long"
            )


@dataclass(frozen=True)
class Scenes:
    """What one item became: its stretches, or why it failed. flashes: sudden changes that were not taken for cuts."""

    item: Item
    rows: tuple[dict[str, Any], ...]
    failure: str | None = None
    found_before: bool = False
    flashes: int = 0


def split(items: Sequence[Item], settings: SplitSettings, folder: Path, *, clips: bool = False) -> Iterator[Scenes]:
    """Find each item's scenes, yielding them as they are done; after the last one manifest.jsonl is written.

    A clip that cannot be read is yielded with its reason and is not in the manifest. With `clips` every scene is encoded
    anew (H.264, AAC) as a clip of its own, otherwise the rows name stretches of the clips that are there.
    """
    rows: list[dict[str, Any]] = []
    for item in items:
        try:
            done = _scenes(item, settings, folder, clips)
        except (MediaError, InputError) as error:
            done = Scenes(item, (), str(error))
        rows += done.rows
        yield done
    with replacing(folder / NEW_MANIFEST) as temporary:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def pieces(
    first: Fraction, last: Fraction, starts: Sequence[Fraction], quiet: Sequence[Stretch], to: SplitSettings
) -> list[Stretch]:
    """The scenes between `first` and `last` that begin at `starts`, as long as asked for; `quiet` are the pauses."""
    edges = [first, *starts, last]
    found: list[Stretch] = []
    for begin, end in pairwise(edges):
        if to.at_pauses:
            found += _divided(_later(begin, quiet), _earlier(end, quiet), quiet, to)
        else:
            found += _divided(begin, end, quiet, to)
    return [(begin, end) for begin, end in found if end - begin >= to.shortest]


def _later(edge: Fraction, quiet: Sequence[Stretch]) -> Fraction:
    """The first moment of quiet from `edge` on; the edge itself when none is in reach."""
    ahead = [edge if a <= edge else a + INTO_PAUSE for a, b in quiet if b > edge]
    return min((time for time in ahead if time - edge <= PAUSE_REACH), default=edge)


def _earlier(edge: Fraction, quiet: Sequence[Stretch]) -> Fraction:
    behind = [edge if b >= edge else b - INTO_PAUSE for a, b in quiet if a < edge]
    return max((time for time in behind if edge - time <= PAUSE_REACH), default=edge)


def _divided(begin: Fraction, end: Fraction, quiet: Sequence[Stretch], to: SplitSettings) -> Iterator[Stretch]:
    """The stretch in parts no longer than `longest`: equal ones, or each as long as a pause allows."""
    while to.longest is not None and end - begin > to.longest:
        parts = math.ceil((end - begin) / to.longest)
        cut = begin + (end - begin) / parts
        if to.at_pauses:
            limit = min(begin + to.longest, end - to.shortest)
            allowed = [min(b - INTO_PAUSE, limit) for a, b in quiet if a + INTO_PAUSE <= limit]
            cut = max((time for time in allowed if time - begin >= to.shortest), default=cut)
        yield begin, cut
        begin = cut
    yield begin, end


def _scenes(item: Item, settings: SplitSettings, folder: Path, clips: bool) -> Scenes:
    key = _key(item, settings)
    record = folder / "scenes" / f"{key}.json"
    facts = probe(item.file)
    first, last = stretch(item, facts)
    before = record.is_file()
    if before:
        found, flashes = _read_record(record)
    else:
        starts = scene_starts(item.file, facts, first, last, settings.threshold)
        quiet = pauses(item, facts, first, last) if settings.at_pauses else ()
        found, flashes = pieces(first, last, starts.times, quiet, settings), starts.flashes
        values = {"scenes": [[str(begin), str(end)] for begin, end in found], "flashes": flashes}
        with replacing(record) as temporary:
            temporary.write_text(json.dumps(values), encoding="utf-8")
    whole = found == [(first, last)]
    if clips and not whole:
        files = [folder / "clips" / f"{item.file.stem}-{key[:6]}-{i:04d}.mp4" for i in range(1, len(found) + 1)]
        for file, part in zip(files, found, strict=True):
            if not file.is_file():
                _write_clip(item, facts, part, file)
        parts = [Item(file, None, repeats=item.repeats) for file in files]
    else:
        parts = [item] if whole else [replace(item, caption=None, start=begin, end=end) for begin, end in found]
    return Scenes(item, tuple(_row(part, folder) for part in parts), found_before=before, flashes=flashes)


def _read_record(record: Path) -> tuple[list[Stretch], int]:
    """Scenes and flashes as they were found before. Raises InputError for a file that something else has changed."""
    try:
        values = read_json_file(record)
        scenes = [(parse_fraction(begin), parse_fraction(end)) for begin, end in values["scenes"]]
        return scenes, int(values["flashes"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{record} cannot be read ({error}); remove it, and its film is looked at again") from error


def _write_clip(item: Item, facts: Facts, part: Stretch, file: Path) -> None:
    begin, end = part
    size = facts.height - facts.height % 2, facts.width - facts.width % 2
    clip = read_clip(item.file, start=begin, end=end, size=size)
    if item.audio is not None:
        wave, rate = separate_sound(item.audio, begin, clip.seconds)
        clip = replace(clip, audio=wave, sampling_rate=rate)
    save_clip(clip, file, crf=CRF)


def _row(item: Item, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"file": os.path.relpath(item.file, folder)}
    if item.caption is not None:
        row["caption"] = item.caption
    if item.audio is not None:
        row["audio"] = os.path.relpath(item.audio, folder)
    for name, seconds in (("start", item.start), ("end", item.end)):
        if seconds is not None:
            row[name] = round(float(seconds), 6)
    if item.repeats != 1:
        row["repeats"] = item.repeats
    return row


def _key(item: Item, settings: SplitSettings) -> str:
    """Hash of the clip (name, size, date), its stretch, its sound and the settings."""
    files = [path for path in (item.file, item.audio) if path is not None]
    about = [
        SPLIT_FORMAT,
        [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files],
        [item.start, item.end],
        asdict(settings),
    ]
    return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SplitSummary:
    """What became of all clips: `notes` has a line for each that is worth a look; `lost_captions` spoke of a whole clip."""

    notes: tuple[str, ...]
    scenes: int
    failed: int
    lost_captions: int

    def line(self, clips: int, folder: Path) -> str:
        """What was found in so many clips, and where it is written."""
        return f"{self.scenes} scenes of {clips - self.failed} clips in {folder / NEW_MANIFEST}"

    @property
    def advice(self) -> str:
        """What to do about lost captions; empty where none were lost."""
        lost = f"{self.lost_captions} captions spoke of a whole clip and are left out; caption the scenes"
        return lost if self.lost_captions else ""


def summarise_scenes(done: Sequence[Scenes], shortest: float) -> SplitSummary:
    """Count what `split` gave, and say which clips failed, have no scene of `shortest` seconds, or flashes."""
    notes = []
    for entry in done:
        if entry.failure is not None:
            notes.append(f"{entry.item.name}: {entry.failure}")
        elif not entry.rows:
            notes.append(f"{entry.item.name}: no scene of {shortest:g} s or more")
    for entry in done:
        if entry.flashes:
            passed = f"{entry.flashes} sudden changes were taken for flashes, not for cuts; look at its scenes"
            notes.append(f"{entry.item.name}: {passed}")
    lost = sum(bool(entry.item.caption) and not any("caption" in row for row in entry.rows) for entry in done)
    failed = sum(entry.failure is not None for entry in done)
    return SplitSummary(tuple(notes), sum(len(entry.rows) for entry in done), failed, lost)
