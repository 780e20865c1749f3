"""The world's frames, so that training draws clips faster than it could render them: mapped from a file, on a GPU there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phonofilm.files import replacing
from phonofilm.nano.world import make_clip

UPLOAD_CLIPS = 64
RESIDENT_SHARE = 0.5
"""Of a GPU's free memory: a larger bank stays on the host."""


class FrameBank:
    """Clips [n, f, h, w, 3] of which the first `ready()` are there, and windows of them for `device`.

    `resident`: whether they are kept on the device, where a batch is one gather and nothing is copied for it; new clips are
    taken there as they come.
    """

    def __init__(
        self, clips: NDArray[np.uint8], ready: Callable[[], int], device: torch.device, *, resident: bool | None = None
    ) -> None:
        self.clips, self.ready, self.device = clips, ready, device
        kept = _fits(clips.nbytes, device) if resident is None else resident
        self._kept = torch.empty(clips.shape, dtype=torch.uint8, device=device) if kept else None
        self._uploaded = 0

    @property
    def num_frames(self) -> int:
        return int(self.clips.shape[1])

    def windows(self, picks: NDArray[np.int64], starts: NDArray[np.int64], frames: int) -> Tensor:
        """uint8 [b, frames, h, w, 3] on the device: of each picked clip, so many frames from its start on."""
        if self._kept is None:
            parts = [self.clips[clip, start : start + frames] for clip, start in zip(picks, starts, strict=True)]
            return torch.from_numpy(np.stack(parts)).to(self.device)
        self._upload(int(picks.max()) + 1)
        clips, first = (torch.from_numpy(index).to(self.device) for index in (picks, starts))
        return self._kept[clips[:, None], first[:, None] + torch.arange(frames, device=self.device)]

    def _upload(self, count: int) -> None:
        assert self._kept is not None
        while self._uploaded < count:
            rows = slice(self._uploaded, min(self._uploaded + UPLOAD_CLIPS, count))
            self._kept[rows] = torch.from_numpy(np.array(self.clips[rows])).to(self.device)
            self._uploaded = rows.stop


def _fits(nbytes: int, device: torch.device) -> bool:
    return device.type == "cuda" and nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def open_bank(path: Path, clips: int, *, size: int, num_frames: int, workers: int = 2) -> NDArray[np.uint8]:
    """Frames [clips, f, h, w, 3] of the seeds 0..clips-1, rendered into `path` unless they are there already."""
    if not path.exists():
        with replacing(path) as temporary:
            bank = np.lib.format.open_memmap(temporary, "w+", np.uint8, (clips, num_frames, size, size, 3))
            for seed, frames in enumerate(_render(range(clips), size, num_frames, workers)):
                bank[seed] = frames
            bank.flush()
    result: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return result


def _render(seeds: range, size: int, num_frames: int, workers: int) -> Iterator[NDArray[np.uint8]]:
    if workers <= 1:
        yield from (_frames(seed, size, num_frames) for seed in seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_frames, seeds, [size] * len(seeds), [num_frames] * len(seeds), chunksize=25)


def _frames(seed: int, size: int, num_frames: int) -> NDArray[np.uint8]:
    return make_clip(seed, size=size, num_frames=num_frames).frames
