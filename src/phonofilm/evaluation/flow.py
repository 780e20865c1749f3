"""Optical flow between neighbouring frames, and what is read off it. No metric here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 12
CHANGED = 8  # grey levels: flow where less changes is what regularisation spreads over flat areas
# Dense inverse search follows steps of many pixels, which Farneback's loses, and makes too much of large flat shapes.
# Farneback's at half the width is right about those, so both are added.
SEARCH_WIDTH, FARNEBACK_WIDTH = 160, 80
# Pixels of all frames. The first process to use the faster loops compiles them for about as long as OpenCV takes for so many.
WORTH_COMPILING = 20_000_000
SMALLEST = 32  # pixels of height and width; with fewer the search ends the process where the other side is long


def mean_magnitudes(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[f, h, w] -> [f - 1]: how far the picture moves from frame to frame, in pixels, on average.

    AV-Align's flow, to the last bit: OpenCV's of Farneback, no field to start from, a half-size pyramid of 3, windows of 15,
    3 rounds, neighbourhoods of 5 with sigma 1.2.
    """
    import cv2

    fields = _farneback(grey, levels=3, window=15)
    if grey.size >= WORTH_COMPILING:
        from phonofilm.evaluation.farneback import fields as compiled

        fields = compiled(grey, levels=3, window=15)
    return np.array([float(cv2.magnitude(field[..., 0], field[..., 1]).mean()) for field in fields])


def directograms(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[f, h, w] -> [f - 1, 12]: how much the picture changes, in grey levels, shared out by the directions in which it moves.

    After Davis and Agrawala, Visual Rhythm and Beat, 2018, section 4.2, with two differences. A motion counts for every
    direction by its component along it: in their narrow bins a swing changes bins as it turns, and looks as if it stopped.
    And flow says only where to: where a small thing is so fast that flow loses it, it would seem to stop, but the picture
    goes on changing.
    """
    wide, narrow = _small(grey, SEARCH_WIDTH), _small(grey, FARNEBACK_WIDTH)
    pixels = wide.shape[2] / narrow.shape[2]  # of the wide picture in one of the narrow picture's
    moving = _directions(wide, search=True) + pixels * _directions(narrow, search=False)
    share: NDArray[np.float64] = moving / np.maximum(moving.sum(1, keepdims=True), 1e-9)
    return share * _changes(narrow)[:, None]


def _changes(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[f, h, w] -> [f - 1]: the mean difference of neighbouring frames in grey levels, where it is more than coding and grain."""
    rows = []
    for before, after in pairwise(grey.astype(np.int16)):
        difference = np.abs(after - before)
        rows.append(float(difference[difference > CHANGED].sum(dtype=np.float64)) / difference.size)
    return np.array(rows)


def _directions(grey: NDArray[np.uint8], *, search: bool) -> NDArray[np.float64]:
    """[f, h, w] -> [f - 1, 12] by one of the two flows."""
    import cv2

    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    units = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    neighbours, rows = np.ones((3, 3), np.uint8), []
    fields = _dense_inverse_search(grey) if search else _farneback(grey, levels=4, window=11)
    for (before, after), field in zip(pairwise(grey), fields, strict=True):
        changed = cv2.dilate((cv2.absdiff(before, after) > CHANGED).astype(np.uint8), neighbours) > 0
        rows.append(np.maximum(field[changed] @ units, 0).sum(0, dtype=np.float64) / changed.size)
    return np.array(rows).reshape(-1, DIRECTIONS)


def _farneback(grey: NDArray[np.uint8], *, levels: int, window: int) -> Iterator[NDArray[np.float32]]:
    """[f, h, w] -> f - 1 fields [h, w, 2] in pixels, x before y."""
    import cv2

    for before, after in pairwise(grey):
        field: NDArray[np.float32] = cv2.calcOpticalFlowFarneback(
            before, after, None, 0.5, levels, window, 3, 5, 1.2, 0
        )  # type: ignore[call-overload]
        yield field


def _dense_inverse_search(grey: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """As `_farneback` (Kroeger and others, 2016)."""
    import cv2

    height, width = grey.shape[1:]
    padded = np.pad(grey, ((0, 0), (0, max(0, SMALLEST - height)), (0, max(0, SMALLEST - width))), "edge")
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    for before, after in pairwise(padded):
        field: NDArray[np.float32] = search.calc(before, after, None)  # type: ignore[call-overload]
        yield field[:height, :width]


def _small(grey: NDArray[np.uint8], wanted: int) -> NDArray[np.uint8]:
    """[f, h, w] at a width of at most `wanted`."""
    import cv2

    height, width = grey.shape[1:]
    if width <= wanted:
        return grey
    size = (wanted, max(1, round(height * wanted / width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey])
