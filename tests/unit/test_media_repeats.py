"""The same clip gives the same file, byte for byte, from run to run: what `--seed` and `--like` promise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from phonofilm.media import Clip, read_clip, save_clip
from phonofilm.media.formats import MP4, SMALL_PIXELS

TIMES = 10


def moving(width: int, height: int, frames: int = 25) -> Clip:
    """Something with edges, gradients, noise and a moving part, so that an encoder has decisions to make; with sound."""
    rng = np.random.default_rng(0)
    time, y, x = np.ogrid[:frames, :height, :width]
    base = 128 + 60 * np.sin(x / 7 + time / 5) + 50 * np.cos(y / 5 - time / 9)
    pixels = np.stack([base, 255 - base, base / 2], axis=-1) + rng.normal(0, 3, (frames, height, width, 3))
    wave = np.sin(np.arange(frames * 2000) / 20) * np.linspace(0, 0.5, frames * 2000)
    return Clip(pixels.clip(0, 255).astype(np.uint8), 24, wave.astype(np.float32)[None], 48000, {"prompt": "x"})


@pytest.mark.parametrize(("width", "height"), [(48, 32), (64, 64), (96, 96)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_ten_encodings_are_one_file(tmp_path: Path, width: int, height: int, suffix: str) -> None:
    clip = moving(width, height)
    written = [save_clip(clip, tmp_path / f"{index}{suffix}") for index in range(TIMES)]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in written}) == 1


def test_small_pictures_get_more_bits_than_large_ones(tmp_path: Path) -> None:
    clip = moving(64, 64, 9)
    frames = {
        crf: read_clip(save_clip(clip, tmp_path / f"{crf}.mp4", crf=crf)).frames.astype(float)
        for crf in (None, MP4.crf)
    }
    errors = {crf: np.abs((pixels - clip.frames).mean(axis=-1)).mean() for crf, pixels in frames.items()}
    assert errors[None] < 0.92 * errors[MP4.crf]
    assert MP4.default_crf(640, 352) == MP4.crf > MP4.default_crf(256, SMALL_PIXELS // 256)
