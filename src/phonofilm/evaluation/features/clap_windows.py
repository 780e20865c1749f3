"""What CLAP's sound tower hears of a clip: four pictures of its mel spectrogram, as LAION's code makes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from phonofilm.evaluation.features.spectrograms import MelScale, decibels, mel_spectrogram

WINDOW = 480_000  # samples: 10 s at the network's own rate
SCALE = MelScale(48_000, 1024, 1024, 480, 64, 50.0, 14_000.0)
FRAMES = WINDOW // SCALE.hop + 1
_CHUNK_SEED = 42


def clap_windows(wave: Tensor) -> tuple[Tensor, bool]:
    """[samples] -> (decibels [4, 1001, 64], whether the clip is longer than the window).

    A shorter clip is repeated as often as it fits, then followed by silence, and all four pictures are the same. Of a longer
    one there is the whole, squeezed, and three chunks: from its beginning, middle and end, chosen as with the seed that
    MOVA's evaluation has.
    """
    if len(wave) <= WINDOW:
        repeated = wave.repeat(max(1, WINDOW // len(wave)))
        levels = _levels(functional.pad(repeated, (0, WINDOW - len(repeated))))
        return levels.expand(4, -1, -1), False
    levels = _levels(wave)
    if len(levels) == FRAMES:
        return levels.expand(4, -1, -1), False
    squeezed = functional.interpolate(
        levels[None, None], (FRAMES, SCALE.bands), mode="bilinear", align_corners=False, antialias=True
    )[0, 0]
    chunks = [levels[start : start + FRAMES] for start in _chunk_starts(len(levels))]
    return torch.stack([squeezed, *chunks]), True


def _levels(wave: Tensor) -> Tensor:
    """[frames, bands]."""
    return decibels(mel_spectrogram(wave, SCALE)).T


def _chunk_starts(frames: int) -> list[int]:
    random = np.random.RandomState(_CHUNK_SEED)
    thirds = np.array_split(np.arange(frames - FRAMES + 1), 3)
    return [int(random.choice(third if len(third) else [0])) for third in thirds]
