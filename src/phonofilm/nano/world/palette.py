"""Colours, sizes, pitch classes and backgrounds shared by all scenes of the world."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from phonofilm.nano.world.canvas import Colour
from phonofilm.nano.world.stage import Array

COLOURS: dict[str, Colour] = {
    "red": (225, 35, 40),
    "yellow": (245, 205, 25),
    "green": (30, 165, 60),
    "blue": (35, 85, 225),
    "purple": (150, 45, 190),
}
SIZES = ("small", "medium", "large")
PITCH_OF_SIZE = {"small": "high", "medium": "mid", "large": "low"}
PITCHES = {"low": 196.0, "mid": 440.0, "high": 988.0}

# (top, bottom) of a vertical gradient; pale or dark and never saturated, so that no object hides in it
BACKGROUNDS: dict[str, tuple[Colour, Colour]] = {
    "sky": ((150, 190, 225), (215, 230, 240)),
    "sunset": ((170, 150, 190), (240, 200, 175)),
    "night": ((14, 16, 34), (44, 48, 78)),
    "cream": ((240, 232, 212), (222, 210, 186)),
    "grey": ((150, 152, 156), (196, 198, 202)),
    "mint": ((190, 222, 208), (220, 238, 228)),
}


def pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    """One of the names, all equally likely."""
    names = list(options)
    return names[int(rng.integers(len(names)))]


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1; above 1 the colour moves towards white, factor 2 being white."""
    if factor <= 1:
        return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
    t = factor - 1
    return (colour[0] + (255 - colour[0]) * t, colour[1] + (255 - colour[1]) * t, colour[2] + (255 - colour[2]) * t)


def backdrop(name: str, size: int, floor_top: float = 1.0, floor: Colour = (0, 0, 0)) -> Array:
    """[size, size, 3] in 0..255: the named gradient, and below `floor_top` a floor that darkens towards the viewer."""
    top, bottom = (np.asarray(c, np.float32) for c in BACKGROUNDS[name])
    y = ((np.arange(size) + 0.5) / size).astype(np.float32)[:, None]
    rows = top + (bottom - top) * np.clip(y / floor_top, 0, 1)
    depth = np.clip((y - floor_top) / max(1 - floor_top, 1e-3), 0, 1)
    ground = np.asarray(floor, np.float32) * (1.08 - 0.3 * depth)
    below = np.clip((y - floor_top) * size + 0.5, 0, 1)
    rows = rows + below * (ground - rows)
    return np.repeat(rows[:, None, :], size, axis=1)
