"""Examining a data set before hours are spent on it: every clip against what training needs. Repairing is in repair.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.caption_findings import caption_findings
from phonofilm.data.cuts import cuts, thumbnails
from phonofilm.data.findings import Finding
from phonofilm.data.manifest import Item
from phonofilm.data.offset import Beginnings, Offset, estimate_offset
from phonofilm.data.offset_findings import KIND, offset_findings, pooled_finding, read_beginnings
from phonofilm.data.probe import Facts, probe
from phonofilm.data.sound_faults import Trouble, drift_trouble, sound_troubles
from phonofilm.data.windows import ClipWindow, WindowPlan, windows_of
from phonofilm.errors import InputError, MediaError
from phonofilm.media import ContainerReport, check_container
from phonofilm.media.clip_checks import PictureReport


@dataclass(frozen=True)
class _Examined:
    """One clip: its findings, and, where its own offset was looked for, what it rests on and the kind of its file."""

    item: Item
    findings: list[Finding]
    facts: Facts | None = None
    beginnings: Beginnings | None = None

    @property
    def source(self) -> tuple[Path, Fraction, int, int] | None:
        """Clips of one folder with one frame rate and size are taken for one source's."""
        facts = self.facts
        return None if facts is None else (self.item.file.parent, facts.rate, facts.width, facts.height)


def examine(
    items: Sequence[Item],
    plan: WindowPlan,
    *,
    refuse_silent: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[Finding]]:
    """The findings of each clip (the captions' among them); nothing is raised for a clip that is broken.

    `progress(done)` counts clips. An offset that one clip is too short to show is looked for in all clips of its source.
    """
    examined = []
    for done, item in enumerate(items, start=1):
        examined.append(_examined(item, plan, refuse_silent))
        progress(done)
    pooled = _pooled_offsets(examined)
    return [
        [*pooled.get(index, clip.findings), *captions]
        for index, (clip, captions) in enumerate(zip(examined, caption_findings(items), strict=True))
    ]


def _pooled_offsets(examined: Sequence[_Examined]) -> dict[int, list[Finding]]:
    """By a clip's number: its findings with the offset of its source, where it has none of its own."""
    sources: dict[object, list[int]] = defaultdict(list)
    for index, clip in enumerate(examined):
        sources[clip.source].append(index)
    found = {}
    for members in sources.values():
        # stretches of one file were read from the same beginnings, which count once
        files = {(clip.item.file, clip.item.audio): clip.beginnings for clip in (examined[index] for index in members)}
        beginnings = [own for own in files.values() if own is not None]
        if len(beginnings) < 2:
            continue
        source = estimate_offset(beginnings)
        for index in members:
            findings = _with_offset_of_source(examined[index], source, len(beginnings))
            if findings is not None:
                found[index] = findings
    return found


def _with_offset_of_source(clip: _Examined, source: Offset, clips: int) -> list[Finding] | None:
    """The clip's findings with what its source says; None where it has an offset of its own, or the source says nothing."""
    unknown = [finding for finding in clip.findings if finding.kind == KIND and finding.value is None]
    if not unknown or clip.facts is None or clip.beginnings is None:
        return None
    pooled = pooled_finding(clip.item.name, clip.beginnings, source, clips, clip.facts.rate)
    return None if pooled is None else [*(finding for finding in clip.findings if finding not in unknown), pooled]


def _examined(item: Item, plan: WindowPlan, refuse_silent: bool) -> _Examined:
    offset: list[Finding] = []
    facts: Facts | None = None
    beginnings: Beginnings | None = None
    try:
        facts, report = probe(item.file), check_container(item.file)
        times, frames = thumbnails(item.file)
        troubles = [*_picture(report), *_sound(item, report, refuse_silent)]
        troubles += _windows(item, facts, plan, times, frames)
        if all(trouble.kind != "no_sound" for trouble in troubles):
            beginnings = read_beginnings(item, facts, times, frames)
            offset = offset_findings(item.name, estimate_offset([beginnings]), facts.rate)
    except (MediaError, InputError) as error:
        troubles = [Trouble(True, "unreadable", str(error))]
    found = [
        Finding("error" if t.severe else "warning", item.name, t.kind, t.message, t.value, t.kind == "start_gap")
        for t in troubles
    ]
    return _Examined(item, found + offset, facts, beginnings)


def _picture(report: ContainerReport) -> Iterator[Trouble]:
    picture = report.picture
    assert picture is not None  # probe has refused a file without
    if picture.jitter > 1 / (2 * picture.frame_rate):
        message = f"variable frame rate: frames are up to {_ms(picture.jitter)} off an even grid; they are resampled"
        yield Trouble(False, "variable_rate", message, float(picture.jitter))
    if picture.frames > 1 and picture.still:
        yield Trouble(False, "frozen", "the picture never changes", picture.frozen_ratio)


def _sound(item: Item, report: ContainerReport, refuse_silent: bool) -> list[Trouble]:
    picture = report.picture
    assert picture is not None
    if item.audio is not None:
        sound = check_container(item.audio).sound
        if sound is None:
            return [Trouble(True, "no_sound", f"{item.audio.name} has no sound")]
        return [*sound_troubles(item.audio, sound), *_lengths(picture, sound.duration, Fraction(0))]
    if report.sound is None:
        return [Trouble(refuse_silent, "no_sound", "no sound track; only the picture is learnt")]
    gap = report.start_difference
    assert gap is not None
    found = sound_troubles(item.file, report.sound)
    if abs(gap) > 1 / picture.frame_rate:
        message = f"the sound starts {_ms(gap)} {'after' if gap > 0 else 'before'} the picture"
        found.append(Trouble(True, "start_gap", message, float(gap)))
    return found + _lengths(picture, report.sound.duration, gap)


def _lengths(picture: PictureReport, seconds: Fraction, gap: Fraction) -> list[Trouble]:
    """`seconds`: how long the sound is; `gap`: when it begins, after the picture does."""
    trouble = drift_trouble(picture.duration, seconds, picture.frame_rate, gap)
    return [] if trouble is None else [trouble]


def _windows(
    item: Item, facts: Facts, plan: WindowPlan, times: Sequence[Fraction], frames: NDArray[np.float32]
) -> list[Trouble]:
    try:
        windows = windows_of(item, facts, plan)
    except InputError as error:
        return [Trouble(True, "too_short", str(error).removeprefix(f"{item.origin}: "), float(facts.seconds))]
    inside = [float(times[i]) for i in cuts(frames) if any(_shows(window, times[i]) for window in windows)]
    if not inside:
        return []
    places = ", ".join(f"{time:.2f} s" for time in inside)
    message = f"cut to another scene at {places}, inside a window; split the clip there (phonofilm data split)"
    return [Trouble(False, "cut", message, inside[0])]


def _shows(window: ClipWindow, cut: Fraction) -> bool:
    """Whether a frame from `cut` on is in the window, whose frames are those nearest to its grid."""
    half = 1 / (2 * window.frame_rate)
    return window.start < cut < window.start + window.seconds - half


def _ms(seconds: Fraction) -> str:
    return f"{abs(float(seconds)) * 1000:.0f} ms"


def sound_summary(findings: Sequence[Finding], clips: int) -> str:
    """How far sound and picture are apart, over the clips where that is known."""
    known = [finding.value for finding in findings if finding.kind == KIND and finding.value is not None]
    if not known:
        return "sound against picture: unknown; look and listen"
    far = max(known, key=abs) * 1000
    return f"sound against picture: known for {len(known)} of {clips} clips, at most {far:+.0f} ms apart"
