"""What Synchformer sees and hears of a clip: overlapping segments of 0.64 s, pictures at 25 a second, mel spectrograms."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phonofilm.evaluation.features.resizing import crop_centre, resize_short_side
from phonofilm.evaluation.features.spectrograms import MelScale, mel_spectrogram

FRAME_RATE = 25
SOUND_RATE = 16_000
SIDE = 224
SEGMENT_FRAMES, STEP_FRAMES = 16, 8
SEGMENT_SAMPLES, STEP_SAMPLES = 10_240, 5_120
SEGMENT_STEPS = 66
SCALE = MelScale(SOUND_RATE, 1024, 400, 160, 128, 0.0, 8000.0)
# Of AudioSet's spectrograms.
_MEAN, _DEVIATION = -4.2677393, 4.5689974


def video_segments(frames: NDArray[np.uint8]) -> Tensor:
    """[n, h, w, 3] at 25 per second -> [segments, 3, 16, 224, 224], from -1 to 1."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    square = crop_centre(resize_short_side(pictures, SIDE), SIDE).float() / 255
    return ((square - 0.5) / 0.5).unfold(0, SEGMENT_FRAMES, STEP_FRAMES).permute(0, 1, 4, 2, 3)


def sound_segments(wave: Tensor) -> Tensor:
    """[samples] at 16 kHz -> [segments, 128, 66]; the last column is 0 before the mean is taken out, as in the original."""
    levels = (mel_spectrogram(wave.unfold(0, SEGMENT_SAMPLES, STEP_SAMPLES), SCALE) + 1e-6).log()
    levels = functional.pad(levels, (0, SEGMENT_STEPS - levels.shape[-1]))
    return (levels - _MEAN) / (2 * _DEVIATION)
