"""Optical flow between neighbouring frames (Farneback, by OpenCV), and what is read off it. No metric here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SMALL_WIDTH = 160
DIRECTIONS = 12


def flows(grey: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """[f, h, w] -> f - 1 fields [h, w, 2] in pixels, x before y."""
    import cv2

    for before, after in pairwise(grey):
        # no field to start from; half-size pyramid of 3, windows of 15, 3 rounds, neighbourhoods of 5 with sigma 1.2
        field: NDArray[np.float32] = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        yield field


def mean_magnitudes(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[f, h, w] -> [f - 1]: how far the picture moves from frame to frame, in pixels, on average."""
    import cv2

    return np.array([float(cv2.cartToPolar(field[..., 0], field[..., 1])[0].mean()) for field in flows(grey)])


def directograms(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[f, h, w] -> [f - 1, 12]: at 160 pixels width, the sum of |flow| per direction, over the number of pixels.

    Davis and Agrawala, Visual Rhythm and Beat, 2018, section 4.2.
    """
    rows = []
    for field in flows(_small(grey)):
        x, y = field[..., 0].ravel(), field[..., 1].ravel()
        direction = np.floor((np.arctan2(y, x) + np.pi) / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS
        rows.append(np.bincount(direction, weights=np.hypot(x, y), minlength=DIRECTIONS) / len(x))
    return np.array(rows).reshape(-1, DIRECTIONS)


def _small(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[f, h, w] at a width of at most 160."""
    import cv2

    height, width = grey.shape[1:]
    if width <= SMALL_WIDTH:
        return grey
    size = (SMALL_WIDTH, max(1, round(height * SMALL_WIDTH / width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey])
