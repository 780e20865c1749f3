"""check_container finds each fault that it is there to find, and nothing wrong with what we write."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media_makers import coloured_frames, flash_and_beep, write_frames_at, write_sound

from phonofilm.errors import MediaError
from phonofilm.media import Clip, check_container, save_clip

RNG = np.random.default_rng(0)
TIMES = [Fraction(i, 24) for i in range(24)]


def moving(wave: np.ndarray | None) -> Clip:
    frames = RNG.integers(0, 256, (25, 16, 16, 3), dtype=np.uint8)
    return Clip(frames, Fraction(24), wave, None if wave is None else 48000)


def noise(channels: int = 1, seconds: float = 25 / 24) -> np.ndarray:
    return RNG.normal(0, 0.1, (channels, round(48000 * seconds))).astype(np.float32)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_our_own_files_have_no_problems(tmp_path: Path, kind: str) -> None:
    report = check_container(save_clip(moving(noise(2)), tmp_path / f"a.{kind}"))
    assert report.problems() == []
    assert report.picture is not None
    assert report.sound is not None
    assert (report.picture.frames, report.picture.frame_rate, report.picture.width) == (25, 24, 16)
    assert (report.picture.frozen_ratio, report.sound.silence_ratio, report.sound.dead_channels) == (0, 0, ())
    assert report.sound.samples == 50000
    assert report.length_difference == 0
    assert report.start_difference == 0
    assert 0.3 < report.sound.peak < 0.8


@pytest.mark.parametrize(
    ("wave", "problem"),
    [
        (np.zeros((1, 50000), np.float32), "the sound is silent"),
        (np.clip(noise() * 30, -1, 1), "the sound is clipped"),
        (np.concatenate([noise(), 0 * noise()]), "channel 1 has no signal"),
        (None, "there is no sound"),
    ],
)
def test_faults_of_the_sound(tmp_path: Path, wave: np.ndarray | None, problem: str) -> None:
    (found,) = check_container(save_clip(moving(wave), tmp_path / "a.mp4")).problems()
    assert problem in found


def test_a_still_picture_is_a_problem(tmp_path: Path) -> None:
    report = check_container(
        save_clip(replace(moving(noise()), frames=np.zeros((25, 16, 16, 3), np.uint8)), tmp_path / "a.mp4")
    )
    assert report.problems() == ["the picture never changes"]
    assert report.picture is not None
    assert report.picture.frozen_ratio == 1


@pytest.mark.parametrize("moves", [False, True])
def test_a_still_picture_is_found_behind_key_frames_that_pump(tmp_path: Path, moves: bool) -> None:
    frames = np.repeat(RNG.integers(60, 200, (1, 64, 96, 3), dtype=np.uint8), 25, axis=0)
    if moves:  # in one small place, and for one frame alone
        frames[12, 20:32, 40:52] = 255
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=24, options={"g": "6", "qscale": "9"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for frame in [*(av.VideoFrame.from_ndarray(frame, "rgb24") for frame in frames), None]:
            container.mux(stream.encode(frame))
    report = check_container(path)
    assert report.picture is not None
    assert report.picture.frozen_ratio < 0.95
    assert ("the picture never changes" in report.problems()) is not moves


def test_ratios_are_shares(tmp_path: Path) -> None:
    wave = noise()
    wave[:, :25000] = 0
    clip = moving(wave)
    clip.frames[13:] = clip.frames[12]
    report = check_container(save_clip(clip, tmp_path / "a.mp4", crf=1))
    assert report.sound is not None
    assert report.picture is not None
    assert abs(report.sound.silence_ratio - 0.5) < 0.05
    assert abs(report.picture.frozen_ratio - 0.5) < 0.05


def test_sound_of_another_start_and_length(tmp_path: Path) -> None:
    late = write_frames_at(
        tmp_path / "a.mp4", coloured_frames(24), TIMES, wave=noise(seconds=1.5), wave_start=Fraction(1, 4)
    )
    report = check_container(late)
    # The encoder's own 21 ms before the first sample count as sound in this file: nothing in it hides them.
    assert report.start_difference is not None
    assert abs(report.start_difference - Fraction(1, 4) + Fraction(1024, 48000)) < Fraction(1, 1000)
    start, length = report.problems()
    assert start == "the sound starts 228.0 ms after the picture"
    assert length == "the sound is 521.3 ms longer than the picture"
    short = check_container(write_frames_at(tmp_path / "b.mp4", coloured_frames(24), TIMES, wave=noise(seconds=0.5)))
    assert "500.0 ms shorter" in short.problems()[0]


def test_uneven_frames(tmp_path: Path) -> None:
    times = [time + (Fraction(1, 10) if index >= 12 else 0) for index, time in enumerate(TIMES)]
    report = check_container(write_frames_at(tmp_path / "a.mp4", coloured_frames(24), times, wave=noise(seconds=1.1)))
    assert any("unevenly timed" in problem for problem in report.problems())


def test_drift_shows_in_flashes_and_beeps_only_where_it_is(tmp_path: Path) -> None:
    clip = flash_and_beep(121, "29.97", at=(10, 60, 110))
    report = check_container(save_clip(clip, tmp_path / "a.mp4"))
    assert report.picture is not None
    assert report.picture.jitter == 0
    assert abs(report.length_difference or 0) < Fraction(1, 48000)


def test_sound_files_and_rubbish(tmp_path: Path) -> None:
    report = check_container(write_sound(tmp_path / "a.mp3", noise(), 48000, "libmp3lame"))
    assert (report.picture, report.length_difference, report.start_difference) == (None, None, None)
    assert report.problems() == ["there is no picture"]
    (tmp_path / "a.mp4").write_bytes(b"rubbish" * 100)
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be read"):
        check_container(tmp_path / "a.mp4")
