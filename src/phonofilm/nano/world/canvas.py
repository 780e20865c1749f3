"""Antialiased shapes on a small moving picture: analytic coverage from distances, painted only inside a bounding box.

Coordinates are fractions of the picture, x to the right and y down, (0, 0) the top left corner. A number that
changes over time is an array [f]; a still one is a float.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from phonofilm.nano.world.stage import Array

Colour = tuple[float, float, float]


class Canvas:
    """Float frames [f, h, w, 3] in 0..255 that shapes are painted on, back to front.

    It starts as one still picture; `animate` repeats it, so whatever does not move is painted only once.
    """

    def __init__(self, background: Array) -> None:
        self.frames = background[None].astype(np.float32)
        self.size = background.shape[0]
        self.centres = ((np.arange(self.size) + 0.5) / self.size).astype(np.float32)

    def animate(self, num_frames: int) -> None:
        """From here on every shape may move."""
        self.frames = np.repeat(self.frames, num_frames, axis=0)

    def ellipse(
        self, x: ArrayLike, y: ArrayLike, rx: ArrayLike, ry: ArrayLike, colour: ArrayLike, opacity: ArrayLike = 1.0
    ) -> None:
        """A filled ellipse with radii rx, ry."""
        x, y, rx, ry = (_column(v) for v in (x, y, rx, ry))
        box = self._box(x, y, rx, ry)
        dx, dy = self._offsets(x, y, box)
        near = np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2)
        slope = np.sqrt((dx / (rx * rx)) ** 2 + (dy / (ry * ry)) ** 2) + 1e-6
        self._paint(near * (near - 1) / slope, box, colour, opacity)

    def box(
        self,
        x: ArrayLike,
        y: ArrayLike,
        half_width: ArrayLike,
        half_height: ArrayLike,
        colour: ArrayLike,
        corner: float = 0.0,
        opacity: ArrayLike = 1.0,
    ) -> None:
        """A rectangle around (x, y), its corners rounded with radius `corner`."""
        x, y, hx, hy = (_column(v) for v in (x, y, half_width, half_height))
        box = self._box(x, y, hx, hy)
        dx, dy = self._offsets(x, y, box)
        qx, qy = np.abs(dx) - hx + corner, np.abs(dy) - hy + corner
        outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
        self._paint(outside + np.minimum(np.maximum(qx, qy), 0) - corner, box, colour, opacity)

    def line(
        self, x: ArrayLike, y: ArrayLike, length_x: float, length_y: float, radius: float, colour: ArrayLike
    ) -> None:
        """A round-ended stroke from (x, y) to (x + length_x, y + length_y)."""
        x, y = _column(x), _column(y)
        box = self._box(
            x + length_x / 2, y + length_y / 2, _column(abs(length_x) / 2 + radius), _column(abs(length_y) / 2 + radius)
        )
        dx, dy = self._offsets(x, y, box)
        along = np.clip((dx * length_x + dy * length_y) / (length_x**2 + length_y**2), 0, 1)
        self._paint(np.sqrt((dx - along * length_x) ** 2 + (dy - along * length_y) ** 2) - radius, box, colour, 1.0)

    def glow(
        self, x: ArrayLike, y: ArrayLike, rx: ArrayLike, ry: ArrayLike, colour: ArrayLike, opacity: ArrayLike
    ) -> None:
        """A soft spot: opaque in the middle, gone at the radii."""
        x, y, rx, ry = (_column(v) for v in (x, y, rx, ry))
        box = self._box(x, y, rx, ry)
        dx, dy = self._offsets(x, y, box)
        inside = np.maximum(1 - (dx / rx) ** 2 - (dy / ry) ** 2, 0)
        self._blend(inside * inside, box, colour, opacity)

    def _box(self, x: Array, y: Array, rx: Array, ry: Array) -> tuple[slice, slice]:
        def span(low: Array, high: Array) -> slice:
            first = int(np.floor(low.min() * self.size)) - 1
            last = int(np.ceil(high.max() * self.size)) + 1
            return slice(min(max(first, 0), self.size), min(max(last, 0), self.size))

        return span(y - ry, y + ry), span(x - rx, x + rx)

    def _offsets(self, x: Array, y: Array, box: tuple[slice, slice]) -> tuple[Array, Array]:
        rows, columns = box
        return self.centres[None, None, columns] - x, self.centres[None, rows, None] - y

    def _paint(self, distance: np.ndarray, box: tuple[slice, slice], colour: ArrayLike, opacity: ArrayLike) -> None:
        self._blend(np.clip(0.5 - distance * self.size, 0, 1), box, colour, opacity)

    def _blend(self, coverage: Array, box: tuple[slice, slice], colour: ArrayLike, opacity: ArrayLike) -> None:
        rows, columns = box
        part = self.frames[:, rows, columns]
        tint = np.asarray(colour, np.float32)
        if tint.ndim == 2:
            tint = tint[:, None, None, :]
        part += (coverage * _column(opacity))[..., None] * (tint - part)


def _column(value: ArrayLike) -> Array:
    """A number or [f] as [1 or f, 1, 1], to stand against rows and columns."""
    return np.asarray(value, np.float32).reshape(-1, 1, 1)
