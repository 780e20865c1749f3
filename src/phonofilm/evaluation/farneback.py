"""Farneback's optical flow, equal to OpenCV's to the last bit in three fifths of its time.

Source: Farneback, Two-Frame Motion Estimation Based on Polynomial Expansion, 2003; the order of every sum, and what is a float
and what a double, as in OpenCV 4 and 5 (`modules/video/src/optflowgf.cpp`), which AV-Align's published figures come from.

OpenCV expands every frame twice, as the later of one pair and the earlier of the next, and its loops are scalar. Here a frame is
expanded once, memory is kept, and the loops are laid out so that a compiler can use wide registers: running sums, whose order
must be kept, go over many rows at a time. numba does not contract sums and products into one instruction, which must not be.
Where OpenCV's own compiler does (on ARM), its last bits are others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.farneback_loops import PLACES, RADIUS, Floats, expand, refine

SCALE = 0.5  # of a level of the pyramid to the one before
SMALLEST = 32  # pixels of height and width of the smallest level
ROUNDS = 3  # at every level
SIGMA = 1.2  # of the neighbourhood that a polynomial is fitted to, in pixels
EDGE = (0.14, 0.14, 0.4472, 0.4472, 0.4472)  # how much the outermost pixels count
f32, f64 = np.float32, np.float64


class Level:
    """A level of the pyramid, and what is computed there: kept from frame to frame, since fresh memory costs much."""

    def __init__(self, height: int, width: int, scale: float) -> None:
        self.size = (round(width * scale), round(height * scale))
        self.sigma = (1 / scale - 1) * 0.5
        width, height = self.size
        # Of the last two frames the polynomials r2 to r6 (of y, x, y squared, x squared, xy), in the two layouts that are read.
        self.rows = np.empty((2, height, 5, width), np.float32)
        self.pixels = np.zeros((2, height, width, PLACES), np.float32)
        self.system = np.empty((height, 5, width), np.float32)
        self.edges = _edge(width), _edge(height)

    def expand(self, picture: Floats, turn: int) -> None:
        side = max(round(self.sigma * 5) | 1, 3)
        blurred = cv2.GaussianBlur(picture, (side, side), self.sigma, sigmaY=self.sigma)
        small = np.asarray(cv2.resize(blurred, self.size, interpolation=cv2.INTER_LINEAR), np.float32)
        expand(small, *_weights(), self.rows[turn], self.pixels[turn])

    def refine(self, flow: Floats | None, turn: int, window: int) -> Floats:
        """[2, h, w] of the smaller level, or none, -> of this one, from the frame before to that of `turn`."""
        width, height = self.size
        if flow is None:
            flow = np.zeros((2, height, width), np.float32)
        else:
            # both planes at once: OpenCV rounds a single one otherwise
            larger = cv2.resize(cv2.merge(list(flow)), self.size, interpolation=cv2.INTER_LINEAR)
            flow = np.empty((2, height, width), np.float32)
            cv2.split(larger, list(flow))
            flow *= f32(1 / SCALE)
        for _ in range(ROUNDS):
            refine(self.rows[1 - turn], self.pixels[turn], *self.edges, window, self.system, flow)
        return flow


def fields(grey: NDArray[np.uint8], *, levels: int, window: int) -> Iterator[Floats]:
    """[f, h, w] -> f - 1 fields [h, w, 2] in pixels, x before y.

    As `cv2.calcOpticalFlowFarneback(before, after, None, 0.5, levels, window, 3, 5, 1.2, 0)` of neighbouring frames.
    """
    height, width = grey.shape[1:]
    scales = [SCALE**level for level in range(levels + 1)]
    pyramid = [Level(height, width, s) for s in scales if s == 1 or min(height * s, width * s) >= SMALLEST]
    for index, frame in enumerate(grey):
        turn, picture = index % 2, frame.astype(np.float32)
        for level in pyramid:
            level.expand(picture, turn)
        if index:
            flow: Floats | None = None
            for level in reversed(pyramid):
                flow = level.refine(flow, turn, window)
            assert flow is not None  # a pyramid has one level at least
            yield flow.transpose(1, 2, 0)


@cache
def _weights() -> tuple[Floats, Floats, Floats, NDArray[np.float64]]:
    """The weights of a neighbourhood's pixels by distance 0 to 5, times 1, x and x squared; 4 entries of the fit's inverse."""
    reach = range(-RADIUS, RADIUS + 1)
    plain = [float(f32(math.exp(-x * x / (2 * SIGMA * SIGMA)))) for x in reach]
    scale = 1 / sum(plain)
    g = [f32(weight * scale) for weight in plain]
    matrix = np.zeros((6, 6))
    for y, gy in zip(reach, g, strict=True):
        for x, gx in zip(reach, g, strict=True):
            weight, xf, yf = gy * gx, f32(x), f32(y)
            matrix[0, 0] += f64(weight)
            matrix[1, 1] += f64(weight * xf * xf)
            matrix[3, 3] += f64(weight * xf * xf * xf * xf)
            matrix[5, 5] += f64(weight * xf * xf * yf * yf)
    matrix[2, 2] = matrix[0, 3] = matrix[0, 4] = matrix[3, 0] = matrix[4, 0] = matrix[1, 1]
    matrix[4, 4], matrix[3, 4], matrix[4, 3] = matrix[3, 3], matrix[5, 5], matrix[5, 5]
    inverse = cv2.invert(matrix, flags=cv2.DECOMP_CHOLESKY)[1]
    columns = [
        np.array([f32(x**power) * w for x, w in zip(reach, g, strict=True)][RADIUS:], np.float32) for power in range(3)
    ]
    return columns[0], columns[1], columns[2], np.array([inverse[1, 1], inverse[0, 3], inverse[3, 3], inverse[5, 5]])


@cache
def _edge(size: int) -> Floats:
    """[2, size]: how much a pixel counts by its distance from the near and from the far side."""
    counts, near = np.ones((2, size), np.float32), np.array(EDGE, np.float32)[:size]
    counts[0, : len(near)] = near
    counts[1, size - len(near) :] = near[::-1]
    return counts
