"""The offset of sound and picture is estimated where events tell it, and unknown where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.media_makers import beeps, write_frames_at

from phonofilm.data.examination import examine
from phonofilm.data.findings import Finding, is_fit
from phonofilm.data.manifest import Item, read_manifest
from phonofilm.data.offset import Beginnings, begins_to_be_seen, estimate_offset
from phonofilm.data.repair import repair
from phonofilm.data.windows import Bucket, WindowPlan
from phonofilm.media import Clip, read_clip, save_clip

PLAN = WindowPlan((Bucket(32, 32, 25),))
AT = (0.4, 0.9, 1.7, 2.1, 3.2, 3.9, 5.0, 5.4)  # seconds; no rhythm
LONG = 6
RANDOM = np.random.default_rng(11)


def flashing(rate: Fraction, at: tuple[float, ...], late: float, seconds: int = LONG) -> Clip:
    """White for 0.12 s from each time on, over a still picture, as frames that are shown from their time on show it; a beep
    for each, `late` seconds after the time."""
    still = np.kron(np.random.default_rng(1).integers(20, 90, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.repeat(still[None], int(rate * seconds), 0)
    wave = np.zeros((1, 48000 * seconds), np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 900 / 48000 * np.arange(2400)).astype(np.float32) * np.linspace(1, 0, 2400)
    for time in at:
        first = math.ceil(time * rate)
        frames[first : first + max(2, round(0.12 * rate))] = 255
        begin = round((time + late) * 48000)
        wave[:, begin : begin + 2400] += tone[: max(0, wave.shape[1] - begin)]
    return Clip(frames, rate, wave, 48000)


def offset_of(path: Path, audio: Path | None = None) -> Finding:
    (about,) = examine([Item(path, "a flash", audio)], PLAN)
    (finding,) = (finding for finding in about if finding.kind == "offset")
    return finding


@pytest.mark.parametrize("late", [0.0, 0.12, -0.2, 0.45])
@pytest.mark.parametrize("rate", [Fraction(16), Fraction(30000, 1001)])
def test_a_known_offset_is_found(tmp_path: Path, rate: Fraction, late: float) -> None:
    finding = offset_of(save_clip(flashing(rate, AT, late), tmp_path / "a.mp4"))
    assert finding.value is not None
    assert abs(finding.value - late) < 0.015
    assert (finding.severity, finding.fixable) == (("error", True) if late else ("note", False))
    assert "confidence" in finding.message


def test_an_offset_is_found_at_a_variable_rate(tmp_path: Path) -> None:
    made = flashing(Fraction(24), AT, 0.3)
    kept = [i for i in range(made.num_frames) if i % 5 != 3]
    times = [Fraction(i, 24) for i in kept]
    path = write_frames_at(tmp_path / "a.mp4", made.frames[kept], times, wave=made.audio)
    assert abs((offset_of(path).value or 0) - 0.3) < 0.03


@pytest.mark.parametrize("at", [(), (1.0,), (1.0, 2.2), tuple(0.5 * i + 0.25 for i in range(11))])
def test_too_few_events_or_a_steady_rhythm_leave_it_unknown(tmp_path: Path, at: tuple[float, ...]) -> None:
    finding = offset_of(save_clip(flashing(Fraction(24), at, 0.2), tmp_path / "a.mp4"))
    assert (finding.severity, finding.value) == ("note", None)
    assert "offset unknown" in finding.message


def test_random_pictures_with_random_sound_leave_it_unknown(tmp_path: Path) -> None:
    frames = RANDOM.integers(0, 255, (72, 32, 32, 3), dtype=np.uint8)
    wave = RANDOM.normal(0, 0.1, (1, 144000)).astype(np.float32)
    assert offset_of(save_clip(Clip(frames, Fraction(24), wave, 48000), tmp_path / "a.mp4")).value is None


def test_unrelated_events_are_hardly_ever_taken_for_related_ones() -> None:
    def unrelated(seconds: float, most: int) -> Beginnings:
        seen, heard = (np.sort(RANDOM.uniform(0, seconds, RANDOM.integers(3, most))) for _ in range(2))
        return Beginnings(seen, heard, seconds, 1 / 24)

    assert sum(estimate_offset([unrelated(8.0, 16)]).seconds is not None for _ in range(300)) <= 3
    many = (estimate_offset([unrelated(2.6, 7) for _ in range(12)]) for _ in range(40))
    assert sum(offset.seconds is not None for offset in many) <= 1


@pytest.mark.parametrize("late", [0.0, 0.08, -0.12])
@pytest.mark.parametrize("rate", [16, 24, 60])
def test_the_estimate_has_no_bias(rate: int, late: float) -> None:
    """Events at any time, seen from the next frame on and heard at once: 8 s, as the doctor meets them."""
    errors = []
    for _ in range(24):
        times = np.cumsum(RANDOM.uniform(0.3, 1.3, 9))
        frames = np.zeros((round(rate * times[-1]) + rate, 24, 24), np.float32)
        for time in times:
            first = math.ceil(time * rate)
            frames[first : first + max(2, rate // 8)] = 255
        seen = begins_to_be_seen([i / rate for i in range(len(frames))], frames)
        estimate = estimate_offset([Beginnings(seen, times + late, len(frames) / rate, 1 / rate)])
        assert estimate.seconds is not None
        errors.append(estimate.seconds - late)
    assert abs(np.mean(errors)) < 0.004
    assert max(map(abs, errors)) < 1 / rate


def short_clips(folder: Path, late: Sequence[float]) -> list[Item]:
    """2.6 s each, with three flashes at other times in every clip: too few for one of them alone."""
    items = []
    for number, offset in enumerate(late):
        at = tuple(0.3 + 0.7 * i + float(RANDOM.uniform(0, 0.4)) for i in range(3))
        clip = flashing(Fraction(24), at, offset, seconds=3)
        short = replace(clip, frames=clip.frames[:62]).trimmed_to_picture()
        items.append(Item(save_clip(short, folder / f"{number:02d}.mp4"), "a flash"))
    return items


def test_short_clips_of_one_source_show_their_offset_together(tmp_path: Path) -> None:
    items = short_clips(tmp_path / "late", [0.12] * 12)
    found = examine(items, PLAN)
    offsets = [finding for about in found for finding in about if finding.kind == "offset"]
    assert [(f.severity, f.fixable) for f in offsets] == [("error", True)] * 12
    assert all(abs((finding.value or 0) - 0.12) < 0.015 for finding in offsets)
    assert "12 clips of its source" in offsets[0].message
    repair(items[:2], found[:2], tmp_path / "fixed")
    again = [f for about in examine(read_manifest(tmp_path / "fixed"), PLAN) for f in about if f.kind == "offset"]
    assert {finding.severity for finding in again} == {"note"}


def test_clips_in_time_among_late_ones_are_left_alone(tmp_path: Path) -> None:
    items = short_clips(tmp_path, [0.12] * 6 + [0.0])
    offsets = [finding for about in examine(items, PLAN) for finding in about if finding.kind == "offset"]
    assert [finding.severity for finding in offsets] == ["error"] * 6 + ["note"]


def test_stretches_of_one_file_count_once(tmp_path: Path) -> None:
    (item,) = short_clips(tmp_path, [0.12])
    stretches = [replace(item, start=Fraction(i, 10)) for i in range(6)]
    assert {f.severity for about in examine(stretches, PLAN) for f in about if f.kind == "offset"} == {"note"}


def test_clips_of_other_folders_are_another_source(tmp_path: Path) -> None:
    items = [item for i in range(3) for item in short_clips(tmp_path / str(i), [0.12])]
    assert {f.severity for about in examine(items, PLAN) for f in about if f.kind == "offset"} == {"note"}


def test_a_flash_is_seen_once_when_it_begins() -> None:
    frames = np.zeros((48, 24, 24), np.float32)
    frames[10:14], frames[30:37] = 255, 128
    times = [i / 24 for i in range(48)]
    assert begins_to_be_seen(times, frames) == pytest.approx([9.5 / 24, 29.5 / 24])
    assert begins_to_be_seen(times[:2], frames[:2]).size == 0


@pytest.mark.parametrize("separate", [False, True])
def test_a_constant_offset_is_fixed_in_a_copy(tmp_path: Path, separate: bool) -> None:
    made = flashing(Fraction(24), AT, 0.25)
    data = tmp_path / "data"
    path = save_clip(made, data / "late.mp4")
    audio = path if separate else None
    items = (Item(path, "a flash", audio, end=Fraction(4)), Item(path, "the same", audio, start=Fraction(2)))
    (copy,) = repair(items, examine(items, PLAN), tmp_path / "fixed")
    again = read_manifest(tmp_path / "fixed")
    assert [(item.file, item.audio, item.start, item.end) for item in again] == [
        (copy, None, None, 4),
        (copy, None, 2, None),
    ]
    found = [finding for about in examine(again, PLAN) for finding in about]
    assert is_fit(found)
    clip = read_clip(copy)
    assert clip.audio is not None
    assert clip.frames.shape == made.frames.shape
    assert np.abs(np.array(beeps(clip.audio, 48000)[: len(AT)]) / 48000 - AT).max() < 0.012
