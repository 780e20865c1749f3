"""Reading the world's owl from frames and sound alone. Knows how an owl looks and sounds, never a clip's state.

Shapes: f frames, h rows, w columns; places are fractions of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from phonofilm.media.onsets import onset_times
from phonofilm.nano.reading.event_reader import between_frames, rises
from phonofilm.nano.reading.frame_reader import (
    TABLE_BEGINS,
    UNRECOGNISED,
    ground_begins,
    most_common_colour,
    named_pixels,
    softened,
)
from phonofilm.nano.world import owl
from recipes.nano.measuring.background_reader import read_backgrounds

Mask = NDArray[np.bool_]
OWL_OVERLAP = (
    0.6  # intersection over union of what is coloured and an owl's silhouette; true owls 0.9, others below 0.45
)
PALER = 40.0  # of 255: how much the white of an eye is lighter than its pupil; true owls 180, else on a table below 20
ALMOST_ALL = 0.9  # of the frames
ON_TABLE = 0.03  # of the picture's height, around where the table begins
PLACE_REACH = 0.14  # how far from the middle an owl may sit
RAISED, LOWERED = 0.5, 0.2  # share of the raised wings' place that is coloured
LOW, HIGH = 0.25, 0.45  # of the wings' way up
NOTE_TOLERANCE = 0.09  # of a note's frequency
PURE = 0.5  # share of the sound's power that is the note's own
FIRST_NOTE, SECOND_NOTE = (0.02, 0.08), (owl.NOTE_SECONDS + 0.02, owl.NOTE_SECONDS + 0.08)  # seconds after the onset


@dataclass(frozen=True)
class OwlFrames:
    """What the frames of a clip show.

    shown: the share of frames that show an owl, each read by itself. colour: of most frames ("none" without one). background:
    see `background`. place: of the owl's middle. wings: how far up they are in every frame [f], 0 to 1. events: seconds at
    which they go up.
    """

    shown: float
    colour: str
    background: str
    place: float
    wings: NDArray[np.float64]
    events: tuple[float, ...]

    @property
    def seen(self) -> bool:
        """Whether there is an owl almost all the time: an autoencoder may lose it in a frame or two."""
        return self.shown >= ALMOST_ALL


def read_owl(frames: NDArray[np.uint8], frame_rate: Fraction) -> OwlFrames:
    """Read [f, h, w, 3]. An owl has an owl's silhouette, pale eyes with dark pupils, and a table under it."""
    pixels = softened(frames)
    named = named_pixels(pixels)
    coloured = named >= 0
    resting = coloured.mean(0) > 0.5
    places = _places(frames.shape[1])
    x = max(places, key=lambda place: _overlap(resting, places[place].silhouettes[0]))
    at = places[x]
    begins = ground_begins(pixels)
    on_table = begins is not None and abs(begins - TABLE_BEGINS) < ON_TABLE
    owls = np.array([on_table and _is_owl(pixels[i], coloured[i], at) for i in range(len(frames))])
    if not owls.any():
        return OwlFrames(0.0, UNRECOGNISED, UNRECOGNISED, x, np.zeros(len(frames)), ())
    colours = [most_common_colour(named[i]) for i in np.flatnonzero(owls)]
    colour = max(sorted(set(colours)), key=colours.count)
    backgrounds = read_backgrounds(pixels)
    wings = _lift(pixels[:, at.wings], coloured[:, at.wings].mean(1))
    return OwlFrames(
        shown=colours.count(colour) / len(frames),
        colour=colour,
        background=_almost_always(backgrounds),
        place=x,
        wings=wings,
        events=tuple(between_frames(rises(wings, low=LOW, high=HIGH), float(frame_rate))),
    )


def _is_owl(pixels: NDArray[np.float32], coloured: Mask, at: _Place) -> bool:
    """Whether one frame [h, w, 3] shows an owl there, its wings down, up, or on their way."""
    light = pixels.mean(-1)
    eyes = float(light[at.eyes].mean() - light[at.pupils].mean())
    return eyes > PALER and max(_overlap(coloured, silhouette) for silhouette in at.silhouettes) > OWL_OVERLAP


def _almost_always(names: Sequence[str]) -> str:
    """The name that almost all frames have; "none" where there is no such name."""
    most = max(sorted(set(names)), key=names.count)
    return most if names.count(most) >= ALMOST_ALL * len(names) else UNRECOGNISED


def _lift(pixels: NDArray[np.float32], coloured: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far up the wings are [f], 0 to 1: how much their raised place, [f, n, 3], differs from itself without them.

    coloured [f]: the share of that place that has the owl's colour. Zeros when it is never full, or never empty.
    """
    down = coloured < LOWERED
    if coloured.max() < RAISED or not down.any():
        return np.zeros(len(coloured))
    wall = np.median(pixels[down], axis=0)
    away = np.linalg.norm(pixels - wall, axis=-1).mean(1).astype(np.float64)
    rest = np.median(away[down])
    result: NDArray[np.float64] = np.clip((away - rest) / (away.max() - rest), 0, 1)
    return result


def read_calls(wave: NDArray[np.float32], sampling_rate: int) -> tuple[float, ...]:
    """The seconds at which an owl's calls begin in [samples]: a high note, and a lower one right behind it."""
    high, low = owl.OWL_NOTES
    return tuple(
        float(time)
        for time in onset_times(wave, sampling_rate)
        if _purity(wave, sampling_rate, time, FIRST_NOTE, high) > PURE
        and _purity(wave, sampling_rate, time, SECOND_NOTE, low) > PURE
    )


@dataclass(frozen=True)
class _Place:
    """Where the parts of an owl lie in [h, w]: what is coloured with the wings down, half way and up; the eyes' white and
    pupils; what is coloured only when the wings are up."""

    silhouettes: tuple[Mask, ...]
    eyes: Mask
    pupils: Mask
    wings: Mask


@lru_cache(maxsize=4)
def _places(size: int) -> dict[float, _Place]:
    """An owl of every place in the middle of the picture, a pixel apart."""
    steps = range(-round(PLACE_REACH * size), round(PLACE_REACH * size) + 1)
    return {0.5 + step / size: _place(0.5 + step / size, size) for step in steps}


def _place(x: float, size: int) -> _Place:
    rest, half, raised = (_tinted(owl.portrait(x, size, lift)) for lift in (0.0, 0.5, 1.0))
    centres = (np.arange(size) + 0.5) / size
    pupils, eyes = np.zeros((size, size), bool), np.zeros((size, size), bool)
    for side in (-1, 1):
        away = np.hypot(
            (centres[None, :] - x - side * owl.EYE_X) / owl.EYE_SIZE[0],
            (centres[:, None] - owl.EYE_Y) / owl.EYE_SIZE[1],
        )
        pupils |= away < 0.4
        eyes |= (away > 0.6) & (away < 0.95)
    return _Place((rest, half, raised), eyes, pupils, raised & ~rest)


def _tinted(portrait: NDArray[np.float32]) -> Mask:
    """Where [h, w, 3], painted in red on white, is coloured."""
    result: Mask = named_pixels(portrait[None])[0] >= 0
    return result


def _overlap(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def _purity(
    wave: NDArray[np.float32], rate: int, onset: float, between: tuple[float, float], frequency: float
) -> float:
    """The share of the power between two times after the onset that lies around `frequency`; 0 behind the sound's end."""
    part = wave[round((onset + between[0]) * rate) : round((onset + between[1]) * rate)].astype(np.float64)
    if len(part) < (between[1] - between[0]) * rate / 2:
        return 0.0
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8192)) ** 2
    frequencies = np.linspace(0, rate / 2, len(power))
    near = np.abs(frequencies / frequency - 1) < NOTE_TOLERANCE
    return float(power[near].sum() / max(power.sum(), 1e-12))
