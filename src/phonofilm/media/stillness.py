"""Whether a picture ever changes, read off the brightness of its blocks, which coding and grain hardly move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # pixels each way; what is left over at the right and the bottom is not looked at
# Grey levels of 255. Photographs coded at low rates with a key frame every half second moved a block by up to 4.1 (MPEG-4)
# and 2.2 (H.264) though whole frames differed by up to 5.7 a pixel; the least that a small drawn mouth moved one was 8.4.
CHANGE = 5.0


class BlockLevels:
    """How dark and how bright each block of a picture has been, over the frames that were added."""

    def __init__(self) -> None:
        self._darkest: NDArray[np.float32] | None = None
        self._brightest: NDArray[np.float32] | None = None
        self._changes = False

    def add(self, grey: NDArray[np.uint8]) -> None:
        """The next frame: [h, w]. Not looked at any more once a block has changed."""
        if self._changes:
            return
        levels = _block_means(grey)
        if self._darkest is None or self._brightest is None:
            self._darkest, self._brightest = levels, levels
        elif levels.shape != self._darkest.shape:
            self._changes = True
        else:
            self._darkest = np.minimum(self._darkest, levels)
            self._brightest = np.maximum(self._brightest, levels)
            self._changes = bool((self._brightest - self._darkest).max() >= CHANGE)

    @property
    def never_change(self) -> bool:
        """Whether no block has moved by as much as 5 grey levels. False without a frame, and where the size changes."""
        return self._darkest is not None and not self._changes


def _block_means(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[h, w] -> [h // 16, w // 16]; blocks are smaller where the picture is."""
    side = min(BLOCK, *grey.shape)
    rows, columns = (length // side for length in grey.shape)
    whole = grey[: rows * side, : columns * side]
    heights = whole.reshape(rows, side, columns * side).sum(1, dtype=np.uint16)
    result: NDArray[np.float32] = heights.reshape(rows, columns, side).mean(2, dtype=np.float32) / np.float32(side)
    return result
