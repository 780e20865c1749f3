"""How far a face's lips are from the sound: SyncNet's distances at 31 offsets. Which face, and from where, is not known here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.features.mfcc import mfcc

if TYPE_CHECKING:
    from torch import Tensor

    from phonofilm.evaluation.networks.syncnet import SyncNet

FRAME_RATE = 25
SOUND_RATE = 16_000
SAMPLES_PER_FRAME = SOUND_RATE // FRAME_RATE
STEPS_PER_FRAME = 4  # of 10 ms
MOST_OFFSET = 15  # frames either way
BATCH = 20


@dataclass(frozen=True)
class LipSync:
    """Of one face track.

    distances: mean distance at each offset, [31]. offset: frames by which the sound comes before the picture where they are
    nearest; negative: the sound is late. distance: LSE-D, lower is better. confidence: LSE-C, higher is better.
    """

    distances: NDArray[np.float32]
    windows: int

    @property
    def distance(self) -> float:
        return float(self.distances.min())

    @property
    def confidence(self) -> float:
        return float(_lower_median(self.distances) - self.distances.min())

    @property
    def offset(self) -> int:
        return MOST_OFFSET - int(self.distances.argmin())


def sync_windows(frames: int, samples: int) -> int:
    """How many windows of 5 frames a track has; the original leaves out the last one that would fit."""
    from phonofilm.evaluation.networks.syncnet import WINDOW_FRAMES

    return max(0, min(frames, samples // SAMPLES_PER_FRAME) - WINDOW_FRAMES)


def lip_sync(faces: NDArray[np.uint8], wave: NDArray[np.int16], network: SyncNet, device: str = "cpu") -> LipSync:
    """faces: [frames, 224, 224, 3], RGB, 25 per second. wave: [samples] at 16 kHz, starting with the first frame.

    Raises ValueError for tracks too short for a window.
    """
    import torch

    count = sync_windows(len(faces), len(wave))
    if not count:
        raise ValueError(
            f"{len(faces)} frames with {len(wave)} samples are too short for a window of 5 frames and one more"
        )
    cepstra = torch.from_numpy(mfcc(wave, SOUND_RATE).T.astype(np.float32))
    pictures = torch.from_numpy(
        np.ascontiguousarray(faces[..., ::-1].transpose(3, 0, 1, 2))
    )  # blue green red, [3, n, h, w]
    seen, heard = [], []
    with torch.inference_mode():
        for first in range(0, count, BATCH):
            windows = range(first, min(count, first + BATCH))
            clips = torch.stack([pictures[:, at : at + 5] for at in windows]).float()
            sounds = torch.stack([cepstra[None, :, STEPS_PER_FRAME * at : STEPS_PER_FRAME * at + 20] for at in windows])
            seen.append(network.embed_faces(clips.to(device)).cpu())
            heard.append(network.embed_sound(sounds.to(device)).cpu())
        distances = distance_curve(torch.cat(seen), torch.cat(heard))
    return LipSync(distances.numpy(), count)


def distance_curve(seen: Tensor, heard: Tensor) -> Tensor:
    """[n, 1024] each -> [31]: mean distances between window i of the picture and window i + k of the sound, k from -15 to 15.

    Beyond the ends the sound is a vector of zeros, as in the original: on short tracks that raises the outer distances.
    """
    import torch
    from torch.nn import functional

    padded = functional.pad(heard, (0, 0, MOST_OFFSET, MOST_OFFSET))
    shifted = padded.unfold(0, 2 * MOST_OFFSET + 1, 1)  # [n, 1024, 31]
    each = functional.pairwise_distance(seen[:, None].expand(-1, 2 * MOST_OFFSET + 1, -1), shifted.transpose(1, 2))
    return torch.mean(each, 0)


def _lower_median(values: NDArray[np.float32]) -> np.float32:
    middle: np.float32 = np.sort(values)[(len(values) - 1) // 2]
    return middle
