"""When something visibly happens: a ball's impacts, a mouth's openings, a lamp's flashes, a xylophone's lit bars.

Each reader takes pixels float [f, h, w, 3] in 0..255, the coloured object's place and the frame rate, and gives seconds.
Frame i shows time i / frame_rate. An event between two frames is put where the frames around it say, else in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.nano.world.ball import GRAVITY

Pixels = NDArray[np.float32]
Curve = NDArray[np.float64]
SMALLEST_BOUNCE = 0.03  # of the picture's height
SMALLEST_FLASH = 25.0  # of 255, the mean over a bulb
SMALLEST_MOUTH = 0.004  # of the picture: half of what an "oo" adds to a closed mouth
SMALLEST_STRIKE = 25.0  # of 255: how much paler a bar becomes


@dataclass(frozen=True)
class Blob:
    """The object of a clip: mask bool [f, h, w] of its colour; centres x, y [f] as fractions, NaN where it is not seen."""

    mask: NDArray[np.bool_]
    x: Curve
    y: Curve

    @cached_property
    def usual(self) -> NDArray[np.bool_]:
        """[h, w]: where the object is in at least a third of the frames."""
        result: NDArray[np.bool_] = self.mask.mean(0) > 1 / 3
        return result

    @property
    def usual_radius(self) -> float:
        """Of a still object, its holes filled, as a fraction of the picture's width."""
        return _filled_radius(self.usual)

    @property
    def radius(self) -> float:
        """The median over the frames in which it is seen, its highlights filled."""
        return float(np.median([_filled_radius(m) for m in self.mask[np.isfinite(self.x)]]))


def impacts(pixels: Pixels, blob: Blob, frame_rate: float) -> list[float]:
    """Times of a ball's lowest points: where the arcs of falling and rising meet."""
    y = _without_gaps(blob.y)
    times = []
    for k in range(1, len(y) - 1):
        if not (y[k] >= y[k - 1] and y[k] > y[k + 1]):
            continue
        fall, rise = _descent(y[k::-1]), _descent(y[k:])
        if min(fall, rise) < SMALLEST_BOUNCE:
            continue
        times.append((k + _meeting(y, k, frame_rate)) / frame_rate)
    return times


def openings(pixels: Pixels, blob: Blob, frame_rate: float) -> list[float]:
    """Times at which a mouth begins to open: its area is what differs from the face's own colour where a mouth belongs."""
    if not blob.usual.any():
        return []
    h, w = pixels.shape[1:3]
    # the chin and the face's sides are clear of eyes, hats and bows
    rows, columns = np.nonzero(blob.usual)
    x, bottom = (columns.mean() + 0.5) / w, (np.quantile(rows, 0.995) + 1) / h
    dy = ((np.arange(h) + 0.5) / h)[:, None] - (bottom - 0.19)
    dx = ((np.arange(w) + 0.5) / w)[None, :] - x
    mouth = (dx / 0.21) ** 2 + (dy / 0.15) ** 2 < 1
    if not (mouth & blob.usual).any():
        return []
    skin = np.median(pixels[:, mouth & blob.usual], axis=(0, 1))
    away = np.linalg.norm(pixels[:, mouth] - skin, axis=-1) / np.linalg.norm(skin - np.array([60, 8, 18]))
    area = np.clip(away, 0, 1).sum(1) / (h * w)
    area -= np.quantile(area, 0.05)
    if area.max() < SMALLEST_MOUTH:
        return []
    return [c / frame_rate for c in rises(area / area.max(), low=0.13, high=0.25)]


def flashes(pixels: Pixels, blob: Blob, frame_rate: float) -> list[float]:
    """Times at which a bulb lights up."""
    if not blob.usual.any():
        return []
    h, w = pixels.shape[1:3]
    rows, columns = np.nonzero(blob.usual)
    y, x = (rows.mean() + 0.5) / h, (columns.mean() + 0.5) / w
    dy, dx = ((np.arange(h) + 0.5) / h)[:, None] - y, ((np.arange(w) + 0.5) / w)[None, :] - x
    bulb = np.hypot(dx, dy) < max(0.9 * blob.usual_radius, 1 / w)
    light = pixels[:, bulb].mean((1, 2)).astype(np.float64)
    dark, bright = np.quantile(light, 0.05), light.max()
    if bright - dark < SMALLEST_FLASH:
        return []
    return between_frames(rises((light - dark) / (bright - dark), low=0.25, high=0.4), frame_rate)


def strikes(pixels: Pixels, blob: Blob, frame_rate: float) -> list[float]:
    """Times at which a bar turns pale: the jumps of the least of its three colour values, column by column."""
    h, w = pixels.shape[1:3]
    low, high = round(0.76 * h), round(0.83 * h)
    columns = blob.usual[low:high].mean(0) > 0.5
    if not columns.any():
        return []
    paleness = pixels[:, low:high].min(-1).mean(1)[:, columns]
    jump = np.diff(paleness, axis=0)
    # over two frames, because an autoencoder may smear a jump; a bar is several columns wide
    wide = np.maximum(jump, 0)
    wide[1:] += np.maximum(jump[:-1], 0)
    strength = np.sort(wide, axis=1)[:, -max(2, round(0.05 * w)) :].mean(1)
    if strength.max() < SMALLEST_STRIKE:
        return []
    jumps = [int(np.ceil(c)) for c in rises(strength / strength.max(), low=0.2, high=0.4)]
    return [_lit(paleness, wide[jump], jump) / frame_rate for jump in jumps]


READERS: Mapping[str, Callable[[Pixels, Blob, float], list[float]]] = {
    "ball": impacts,
    "face": openings,
    "lamp": flashes,
    "xylophone": strikes,
}


def _filled_radius(mask: NDArray[np.bool_]) -> float:
    """Of the disk with the area of [h, w], every row filled from its first to its last pixel."""
    w = mask.shape[1]
    any_row = mask.any(1)
    span = (w - mask[:, ::-1].argmax(1) - mask.argmax(1))[any_row]
    return float(np.sqrt(span.sum() / np.pi) / w)


def _without_gaps(y: Curve) -> Curve:
    seen = np.isfinite(y)
    return np.interp(np.arange(len(y)), np.nonzero(seen)[0], y[seen])


def _descent(y: Curve) -> float:
    """How far the curve falls from its first value before it rises above it again."""
    above = np.nonzero(y > y[0] + 1e-3)[0]
    return float(y[0] - y[: above[0] if len(above) else len(y)].min())


def _meeting(y: Curve, k: int, frame_rate: float) -> float:
    """Where, in frames from k, the arc before meets the arc after: arcs of the world's gravity through frames 2 to 6 away.

    The frames next to the impact are left out: an autoencoder mixes its two sides there.
    """
    curvature = GRAVITY / frame_rate**2 / 2
    arcs = []
    for side in (-1, 1):
        t = side * np.arange(2, 7)
        t = t[(t + k >= 0) & (t + k < len(y))]
        if len(t) < 2:
            return 0.0
        # downwards is positive, so gravity bends the curve upwards in numbers
        arcs.append(np.polyfit(t, y[k + t] - curvature * t**2, 1))
    (before, start), (after, end) = arcs
    return float(np.clip((end - start) / (before - after), -1.5, 1.5)) if before - after > 1e-6 else 0.0


def _lit(paleness: Pixels, rise: NDArray[Any], jump: int) -> float:
    """The frame, fractional, at which the columns that rise most are half as pale as they become. jump: see `strikes`."""
    columns = rise > 0.5 * rise.max()
    begin = max(0, jump - 2)
    curve = paleness[begin : jump + 3, columns].mean(1)
    peak = int(curve.argmax())
    base = curve[: peak + 1].min()
    half = (curve - base) / max(curve[peak] - base, 1e-6)
    crossing = rises(half[: peak + 1], low=0.5, high=0.5)
    return begin + (crossing[-1] if crossing else float(peak))


def rises(curve: NDArray[Any], low: float, high: float) -> list[float]:
    """Fractional frames at which the curve climbs past `high` after having been below `low`."""
    times, armed = [], bool(curve[0] < low)
    for k in range(1, len(curve)):
        if armed and curve[k] >= high:
            times.append(k - 1 + (high - min(curve[k - 1], high)) / max(curve[k] - curve[k - 1], 1e-6))
            armed = False
        armed = armed or bool(curve[k] < low)
    return times


def between_frames(crossings: list[float], frame_rate: float) -> list[float]:
    """What happens at once between two frames is put half way."""
    return [(np.floor(c) + 0.5) / frame_rate for c in crossings]
