"""Reading a world clip's scene, colour and size out of its frames alone. Knows the world's palette, never a clip's state.

Its events are read in `event_reader`. Shapes: f frames, h rows, w columns; lengths are fractions of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from phonofilm.nano.reading import event_reader
from phonofilm.nano.reading.event_reader import Blob
from phonofilm.nano.world import lamp, xylophone
from phonofilm.nano.world.ball import BALL_RADIUS as BALL_RADIUS
from phonofilm.nano.world.palette import COLOURS

UNRECOGNISED = "none"
MIN_CHROMA, MIN_SATURATION = 45.0, 0.4  # of 255, and of 1: above every background and below every object, lit or not
HUE_TOLERANCE = 14.0  # degrees; the brown of wood and mallets lies farther from every named colour
SMALLEST_OBJECT = 0.008  # of the picture: a third of the smallest ball
MOVED = 0.04  # a ball's place varies by more (standard deviation), a lamp's by less
STEP = 18.0  # of 255: a floor or table differs from the wall above by more
FLOOR_BEGINS, TABLE_BEGINS = 0.74, 0.845  # where the ball's floor and the lamp's and the xylophone's table begin


@dataclass(frozen=True)
class FrameReading:
    """What a viewer of the frames would name. "none" where nothing of the world can be recognised.

    size: None for a face, which has only one. events: seconds at which something visibly happens.
    """

    scene: str
    colour: str
    size: str | None
    events: tuple[float, ...]


def read_frames(frames: NDArray[np.uint8], frame_rate: Fraction) -> FrameReading:
    """Read frames [f, h, w, 3]."""
    pixels = softened(frames)
    named = named_pixels(pixels)
    colour = most_common_colour(named)
    if colour == UNRECOGNISED:
        return FrameReading(UNRECOGNISED, UNRECOGNISED, None, ())
    blob = _blob(named == list(COLOURS).index(colour))
    scene = _scene(pixels, blob)
    if scene == UNRECOGNISED:
        return FrameReading(UNRECOGNISED, colour, None, ())
    times = event_reader.READERS[scene](pixels, blob, float(frame_rate))
    return FrameReading(scene, colour, _size(scene, blob), tuple(times))


def colour_of(frames: NDArray[np.uint8]) -> str:
    """The named colour of most coloured pixels of [f, h, w, 3]; "none" if hardly any pixel has one."""
    return most_common_colour(named_pixels(softened(frames)))


def named_pixels(pixels: NDArray[np.float32]) -> NDArray[np.int8]:
    """[f, h, w, 3] in 0..255 -> [f, h, w]: index into the palette, or -1 for pixels of no named colour."""
    top, bottom = pixels.max(-1), pixels.min(-1)
    chroma = top - bottom
    colourful = (chroma > MIN_CHROMA) & (chroma > MIN_SATURATION * top)
    named = np.full(chroma.shape, -1, np.int8)
    hue = _hue(pixels[colourful])
    tints = _hue(np.asarray(list(COLOURS.values()), np.float32))
    away = np.abs((hue[:, None] - tints + 180) % 360 - 180)
    nearest = away.argmin(1)
    named[colourful] = np.where(away.min(1) < HUE_TOLERANCE, nearest, -1)
    return named


def _hue(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, 3] -> degrees [n]."""
    r, g, b = rgb.T
    result: NDArray[np.float32] = np.degrees(np.arctan2(np.sqrt(3) * (g - b), 2 * r - g - b)) % 360
    return result


def softened(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Frames averaged with their four neighbours' pixels, which takes the edge off codec noise."""
    x = np.pad(frames.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows: NDArray[np.float32] = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    both: NDArray[np.float32] = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return both / np.float32(16)


def most_common_colour(named: NDArray[np.int8]) -> str:
    """The name of most pixels that have one, from `named_pixels`; "none" if hardly any has."""
    counts = np.bincount(named[named >= 0].ravel(), minlength=len(COLOURS))
    return list(COLOURS)[int(counts.argmax())] if counts.max() >= SMALLEST_OBJECT * named.size else UNRECOGNISED


def _blob(mask: NDArray[np.bool_]) -> Blob:
    """Where the object is: per-frame centres of the mask [f, h, w], clear of stray pixels."""
    f, h, w = mask.shape
    rows, columns = (np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / w
    x, y = np.full(f, np.nan), np.full(f, np.nan)
    for index, frame in enumerate(mask):
        where_y, where_x = np.nonzero(frame)
        if len(where_y) < 0.25 * SMALLEST_OBJECT * h * w:
            continue
        away = np.hypot(rows[where_y] - np.median(rows[where_y]), columns[where_x] - np.median(columns[where_x]))
        near = away <= max(0.4, float(away.min()))
        y[index], x[index] = rows[where_y[near]].mean(), columns[where_x[near]].mean()
    return Blob(mask, x, y)


def _scene(pixels: NDArray[np.float32], blob: Blob) -> str:
    seen = np.isfinite(blob.y)
    if seen.mean() < 0.5:
        return UNRECOGNISED
    moved = float(np.std(blob.y[seen]))
    begins = ground_begins(pixels)
    if begins is None:
        return "face" if moved < MOVED else UNRECOGNISED
    if abs(begins - FLOOR_BEGINS) < abs(begins - TABLE_BEGINS):
        return "ball" if moved > MOVED else UNRECOGNISED
    return "xylophone" if _bar_columns(blob) > 0.2 else "lamp"


def ground_begins(pixels: NDArray[np.float32]) -> float | None:
    """The row of the sharpest edge at the picture's sides, or None if there is only the wall: a floor or a table's top."""
    h, w = pixels.shape[1:3]
    edge = max(1, round(0.045 * w))
    side = np.median(pixels[:, :, :edge], axis=(0, 2))
    rows = np.arange(round(0.66 * h), round(0.92 * h))
    above, below = (side[rows - 2] + side[rows - 3]) / 2, (side[rows + 1] + side[rows + 2]) / 2
    step = np.abs(below - above).max(-1)
    # the middle of a plateau: the edge spreads over several rows
    return float(rows[step > 0.85 * step.max()].mean() / h) if step.max() > STEP else None


def _bar_columns(blob: Blob) -> float:
    """The share of columns that show the object just above the table, most of the time."""
    h = blob.mask.shape[1]
    return float((blob.usual[round(0.74 * h) : round(0.82 * h)].mean(0) > 0.5).mean())


def _size(scene: str, blob: Blob) -> str | None:
    """By the object's extent: the radius of a ball or a bulb, the width of four bars."""
    if scene == "face":
        return None
    if scene == "xylophone":
        h = blob.mask.shape[1]
        columns = np.nonzero(blob.usual[round(0.74 * h) : round(0.82 * h)].mean(0) > 0.5)[0]
        return _nearest((columns[-1] - columns[0] + 1) / blob.mask.shape[2] / 4, xylophone.WIDTH)
    if scene == "lamp":
        return _nearest(blob.usual_radius, lamp.LAMP_RADIUS)
    return _nearest(blob.radius, BALL_RADIUS)


def _nearest(value: float, options: dict[str, float]) -> str:
    return min(options, key=lambda name: abs(np.log(max(value, 1e-6) / options[name])))
