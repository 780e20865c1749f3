"""A file of many clips' sound, rendered once, and the crops a training step takes from it. Knows no scene and no model."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.files import replacing

logger = logging.getLogger(__name__)

Sound = NDArray[np.float32]


def render_bank(path: Path, seeds: Sequence[int], make_sound: Callable[[int], Sound]) -> None:
    """Write the sound of every seed to `path` as one float16 array [clips, samples]; a finished file is left as it is.

    All clips are as long as the first one. The file appears under its name only when it is whole.
    """
    described = {"first_seed": seeds[0], "clips": len(seeds)}
    marker = path.with_suffix(".json")
    if path.exists() and marker.exists() and json.loads(marker.read_text()) == described:
        return
    first = make_sound(seeds[0])
    with replacing(path) as temporary:
        bank = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=(len(seeds), len(first)))
        for row, seed in enumerate(seeds):
            bank[row] = make_sound(seed)
            if (row + 1) % 500 == 0:
                logger.info("rendered the sound of %d of %d clips", row + 1, len(seeds))
        bank.flush()
    marker.write_text(json.dumps(described))


@dataclass(frozen=True)
class SoundBank:
    """Clips [clips, samples] and, for each, the likelihood [clips, starts] with which a crop starts at every hop.

    Sound is sparse: drawn evenly, most crops are nearly silent and teach silence. A start is as likely as its crop is
    loud, plus an even share.
    """

    clips: NDArray[np.float16]
    likelihood: Tensor
    crop: int
    hop: int

    @classmethod
    def load(cls, path: Path, crop: int, hop: int, even_share: float) -> SoundBank:
        """Map the file at `path`; `crop` and `hop` in samples; `even_share` 0..1 of the draws ignore loudness.

        Raises InputError if the clips are shorter than a crop.
        """
        clips = np.load(path, mmap_mode="r")
        if clips.shape[1] < crop:
            raise InputError(f"clips of {clips.shape[1]} samples are shorter than a crop of {crop}; use smaller crops")
        starts = (clips.shape[1] - crop) // hop + 1
        loudness = np.empty((len(clips), starts), np.float32)
        for row, clip in enumerate(clips):
            energy = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
            begin = np.arange(starts) * hop
            loudness[row] = np.sqrt((energy[begin + crop] - energy[begin]).clip(0) / crop)
        share = loudness / (loudness.sum(1, keepdims=True) + 1e-9)
        return cls(clips, torch.from_numpy((1 - even_share) * share + even_share / starts), crop, hop)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """[batch, 1, crop] float32 crops of randomly chosen clips, begun at any sample."""
        rows = torch.randint(len(self.clips), (batch,), generator=generator)
        starts = torch.multinomial(self.likelihood[rows], 1, generator=generator)[:, 0] * self.hop
        starts += torch.randint(self.hop, (batch,), generator=generator)
        starts.clamp_(max=self.clips.shape[1] - self.crop)
        crops = [
            self.clips[row, start : start + self.crop]
            for row, start in zip(rows.tolist(), starts.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]
