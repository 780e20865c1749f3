"""A Clip refuses what is not a clip, and knows its lengths exactly."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from phonofilm.errors import InputError
from phonofilm.media import Clip

FRAMES = np.zeros((5, 4, 6, 3), np.uint8)


def test_sizes_and_exact_seconds() -> None:
    clip = Clip(FRAMES, "23.976")
    assert (clip.num_frames, clip.height, clip.width) == (5, 4, 6)
    assert clip.frame_rate == Fraction(24000, 1001)
    assert clip.seconds == Fraction(5005, 24000)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES[0], r"\[frames, height, width, 3\], got uint8 \(4, 6, 3\)"),
        (FRAMES[..., :2], "got uint8"),
        (FRAMES.astype(np.float32), "got float32"),
        (FRAMES.tolist(), "got list"),
        (FRAMES[:0], "at least one"),
    ],
)
def test_wrong_frames_are_refused(frames: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Clip(frames, Fraction(24))


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros((1, 9), np.float32), None, "belong together"),
        (None, 48000, "belong together"),
        (np.zeros(9, np.float32), 48000, r"float32 array \[channels, samples\], got float32 \(9,\)"),
        (np.zeros((1, 9), np.float64), 48000, "got float64"),
        (np.zeros((9, 1), np.float32), 48000, "1 to 8 channels"),
        (np.zeros((1, 9), np.float32), 0, "positive whole number"),
    ],
)
def test_wrong_sound_is_refused(audio: np.ndarray | None, rate: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Clip(FRAMES, Fraction(24), audio, rate)


@pytest.mark.parametrize("given", [1, 10_427, 10_428, 20_000])
def test_trimming_makes_the_sound_as_long_as_the_picture(given: int) -> None:
    audio = np.arange(given, dtype=np.float32)[None]
    trimmed = Clip(FRAMES, "23.976", audio, 50000).trimmed_to_picture().audio
    assert trimmed is not None
    assert trimmed.shape == (1, int(50000 * Fraction(5005, 24000)))
    kept = min(given, trimmed.shape[1])
    assert (trimmed[0, :kept] == audio[0, :kept]).all()
    assert not trimmed[0, kept:].any()


def test_trimming_leaves_a_silent_film_alone() -> None:
    clip = Clip(FRAMES, Fraction(24))
    assert clip.trimmed_to_picture() is clip


def test_importing_media_imports_neither_libav_nor_pillow() -> None:
    code = (
        "import sys; from phonofilm.media import Clip; print([m for m in ('av', 'PIL', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
