"""Examining a data set before hours are spent on it: every clip against what training needs. Repairing is in repair.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.captions import caption_findings
from phonofilm.data.cuts import cuts, thumbnails
from phonofilm.data.findings import Finding
from phonofilm.data.hearing import Trouble, drift_trouble, sound_troubles
from phonofilm.data.lag import measured_offset, offset_findings
from phonofilm.data.manifest import Item
from phonofilm.data.probe import Facts, probe
from phonofilm.data.windows import ClipWindow, Plan, windows_of
from phonofilm.errors import InputError, MediaError
from phonofilm.media import ContainerReport, check_container
from phonofilm.media.clip_checks import PictureReport

FROZEN = 0.99


def examine(items: Sequence[Item], plan: Plan, *, refuse_silent: bool = False) -> Iterator[list[Finding]]:
    """The findings of each clip in turn (the captions' among them); nothing is raised for a clip that is broken."""
    for item, captions in zip(items, caption_findings(items), strict=True):
        yield [*_clip_findings(item, plan, refuse_silent), *captions]


def _clip_findings(item: Item, plan: Plan, refuse_silent: bool) -> list[Finding]:
    lags: list[Finding] = []
    try:
        facts, report = probe(item.file), check_container(item.file)
        troubles = [*_picture(report), *_sound(item, report, refuse_silent)]
        times, frames = thumbnails(item.file)
        troubles += _windows(item, facts, plan, times, frames)
        if all(trouble.kind != "no_sound" for trouble in troubles):
            lags = offset_findings(item.name, measured_offset(item, facts, times, frames), facts.rate)
    except (MediaError, InputError) as error:
        troubles = [Trouble(True, "unreadable", str(error))]
    found = [
        Finding("error" if t.severe else "warning", item.name, t.kind, t.message, t.value, t.kind == "start_gap")
        for t in troubles
    ]
    return found + lags


def _picture(report: ContainerReport) -> Iterator[Trouble]:
    picture = report.picture
    assert picture is not None  # probe has refused a file without
    if picture.jitter > 1 / (2 * picture.frame_rate):
        message = f"variable frame rate: frames are up to {_ms(picture.jitter)} off an even grid; they are resampled"
        yield Trouble(False, "variable_rate", message, float(picture.jitter))
    if picture.frames > 1 and picture.frozen_ratio > FROZEN:
        yield Trouble(False, "frozen", "the picture never changes", picture.frozen_ratio)


def _sound(item: Item, report: ContainerReport, refuse_silent: bool) -> list[Trouble]:
    picture = report.picture
    assert picture is not None
    if item.audio is not None:
        sound = check_container(item.audio).sound
        if sound is None:
            return [Trouble(True, "no_sound", f"{item.audio.name} has no sound")]
        return [*sound_troubles(item.audio, sound), *_lengths(picture, sound.duration)]
    if report.sound is None:
        return [Trouble(refuse_silent, "no_sound", "no sound track; only the picture is learnt")]
    gap = report.start_difference
    assert gap is not None
    found = sound_troubles(item.file, report.sound)
    if abs(gap) > 1 / picture.frame_rate:
        message = f"the sound starts {_ms(gap)} {'after' if gap > 0 else 'before'} the picture"
        found.append(Trouble(True, "start_gap", message, float(gap)))
    return found + _lengths(picture, gap + report.sound.duration)


def _lengths(picture: PictureReport, seconds: Fraction) -> list[Trouble]:
    """`seconds`: when the sound ends, after the picture's beginning."""
    trouble = drift_trouble(picture.duration, seconds, picture.frame_rate)
    return [] if trouble is None else [trouble]


def _windows(
    item: Item, facts: Facts, plan: Plan, times: Sequence[Fraction], frames: NDArray[np.float32]
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
