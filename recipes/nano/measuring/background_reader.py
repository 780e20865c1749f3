"""Which of the world's backgrounds is behind an owl, frame by frame, from the pixels alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from phonofilm.nano.reading.frame_reader import UNRECOGNISED
from phonofilm.nano.world import owl, palette

# The two upper corners, which an owl does not reach, its ears and raised wings included.
WIDTH, HEIGHT = 0.2, 0.28
WALL_TOLERANCE = 12.0  # of 255, root mean square over the corners: two backgrounds are 20 apart, an autoencoder adds 2


def read_backgrounds(pixels: NDArray[np.float32]) -> tuple[str, ...]:
    """The name of the background of every frame of [f, h, w, 3] in 0..255; "none" where it is none of the world's."""
    h, w = pixels.shape[1:3]
    rows, columns = max(1, round(HEIGHT * h)), max(1, round(WIDTH * w))
    corners = np.concatenate([pixels[:, :rows, :columns], pixels[:, :rows, w - columns :]], axis=2)
    names, walls = _walls(h)
    # pixel by pixel: a mean over the corners would take noise for a wall of its mean colour
    error = np.sqrt(((corners[:, None] - walls[None, :, :rows, None]) ** 2).mean((2, 3, 4)))
    nearest = error.argmin(1).tolist()
    return tuple(
        names[index] if error[frame, index] <= WALL_TOLERANCE else UNRECOGNISED for frame, index in enumerate(nearest)
    )


@lru_cache(maxsize=4)
def _walls(size: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The names of the backgrounds, and one column of each [n, h, 3]."""
    names = tuple(palette.BACKGROUNDS)
    return names, np.stack([palette.backdrop(name, size, owl.OWL_TABLE)[:, 0] for name in names])
