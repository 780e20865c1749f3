"""A file that is not what it should be never gets its name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tests.media_makers import flash_and_beep

from phonofilm.errors import MediaError
from phonofilm.media import save_clip
from phonofilm.media.verify import Expected, verify_clip

TRUE = Expected(frames=25, frame_rate=Fraction(24), seconds=Fraction(25, 24), sound=(50000, 48000))


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_true_file_passes(tmp_path: Path, kind: str) -> None:
    path = save_clip(flash_and_beep(25), tmp_path / f"a.{kind}")
    verify_clip(path, TRUE, path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(TRUE, frames=24), "25 frames instead of 24"),
        (replace(TRUE, seconds=Fraction(2)), "the picture lasts 25/24 s instead of 2 s"),
        (replace(TRUE, sound=(49999, 48000)), "50000 samples at 48000 Hz instead of 49999"),
        (replace(TRUE, sound=(50000, 44100)), "50000 samples at 48000 Hz instead of 50000 at 44100 Hz"),
        (replace(TRUE, sound=None), "sound that should not be there"),
    ],
)
def test_each_difference_is_named(tmp_path: Path, wrong: Expected, message: str) -> None:
    path = save_clip(flash_and_beep(25), tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=f"cannot write wanted.mp4: the result is wrong .*{message}"):
        verify_clip(path, wrong, Path("wanted.mp4"))


def test_missing_tracks(tmp_path: Path) -> None:
    silent = save_clip(replace(flash_and_beep(25), audio=None, sampling_rate=None), tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="the sound is missing"):
        verify_clip(silent, TRUE, silent)
    with pytest.raises(MediaError, match="the picture is missing"):
        verify_clip(save_clip(flash_and_beep(25), tmp_path / "frames") / "audio.wav", TRUE, silent)


def test_a_file_that_cannot_be_read_back(tmp_path: Path) -> None:
    path = save_clip(flash_and_beep(25), tmp_path / "a.mp4")
    path.write_bytes(b"rubbish" * 100)
    with pytest.raises(MediaError, match=r"cannot write wanted\.mp4: it could not be read back"):
        verify_clip(path, TRUE, Path("wanted.mp4"))
