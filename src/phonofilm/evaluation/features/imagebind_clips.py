"""What ImageBind sees and hears of a clip: pairs of frames two seconds apart, cropped three times, and three stretches of 2 s."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phonofilm.evaluation.features.resizing import crop_three, resize_short_side
from phonofilm.evaluation.features.spectrograms import KALDI_RATE, kaldi_filter_bank

SIDE = 224
STRETCHES = 3
STRETCH_SECONDS = 2
STEPS = 204
# CLIP's mean and deviation of pictures, AudioSet's of filter banks.
_PICTURE_MEAN = (0.48145466, 0.4578275, 0.40821073)
_PICTURE_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_SOUND_MEAN, _SOUND_DEVIATION = -4.268, 9.138


def video_clips(frames: NDArray[np.uint8]) -> Tensor:
    """[n, h, w, 3] -> [3 (n - 1), 3, 2, 224, 224]: every two frames that follow each other; a single frame twice."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    small = resize_short_side(pictures, SIDE).float() / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (_PICTURE_MEAN, _PICTURE_DEVIATION))
    crops = torch.stack(crop_three((small - mean) / deviation, SIDE))  # [3, n, 3, h, w]
    if crops.shape[1] == 1:
        crops = crops.repeat(1, 2, 1, 1, 1)
    pairs = crops.unfold(1, 2, 1)  # [3, n - 1, 3, h, w, 2]
    return pairs.transpose(0, 1).flatten(0, 1).permute(0, 1, 4, 2, 3)


def sound_clips(wave: Tensor, to_the_end: bool) -> Tensor:
    """[channels, samples] at 16 kHz -> [3, 1, 128, 204]: the first channel, three stretches of 2 s.

    The mean over all channels is taken out of each stretch, in place: where stretches overlap, the later one finds it gone.
    to_the_end: the last stretch ends with the clip; in the original a third of the way is never heard.
    """
    wave = wave.clone()
    room = max(0.0, wave.shape[1] / KALDI_RATE - STRETCH_SECONDS)
    clips = []
    for index in range(STRETCHES):
        start = room / (STRETCHES - 1 if to_the_end else STRETCHES) * index
        part = wave[:, int(start * KALDI_RATE) : int((start + STRETCH_SECONDS) * KALDI_RATE)]
        part -= part.mean()
        levels = kaldi_filter_bank(part[0]).T[:, :STEPS]
        clips.append(functional.pad(levels, (0, STEPS - levels.shape[1])))
    return ((torch.stack(clips) - _SOUND_MEAN) / _SOUND_DEVIATION)[:, None]
