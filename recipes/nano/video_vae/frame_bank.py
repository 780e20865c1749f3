"""A memory-mapped bank of the world's frames, so that training draws clips faster than it could render them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonofilm.files import replacing
from phonofilm.nano.world import make_clip


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
