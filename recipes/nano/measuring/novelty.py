"""How near an owl clip is to the clips that were trained on: a model that learnt makes new ones, one that memorised replays.

Owls differ in colour, background, place and rhythm. Captions name the first two; place and rhythm are the model's to invent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.manifest import Item
from phonofilm.data.sets import read_items
from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.media import read_clip
from recipes.nano.measuring.owl_reader import OwlFrames, read_owl

LOUDNESS_SECONDS = 0.025
SAME_PLACE = 1.5  # of 64ths of the picture: a pixel, as an autoencoder may move an owl by one
SAME_RHYTHM = (
    0.1  # distance; a trained owl through both autoencoders is 0.05 from itself at most, unrelated ones about 0.5
)


@dataclass(frozen=True)
class TrainedOwl:
    """A clip that was trained on, as it is read. loudness: see `loudness_curve`."""

    name: str
    caption: str
    owl: OwlFrames
    loudness: NDArray[np.float64]


@dataclass(frozen=True)
class Nearest:
    """The trained clip whose rhythm is nearest: 0 is the same, 1 unrelated. replayed: a trained clip came out again."""

    name: str
    distance: float
    replayed: bool


def read_trained(paths: Sequence[Path], geometry: ClipGeometry) -> tuple[TrainedOwl, ...]:
    """The clips of these folders or manifests whose caption mentions an owl, at the model's size, rate and length.

    Raises InputError where there is none: nothing could be compared.
    """
    items = [item for path in paths for item in read_items(path)]
    trained = tuple(_trained(item, geometry) for item in items if "owl" in (item.caption or ""))
    if not trained:
        named = ", ".join(map(str, paths))
        raise InputError(f"{named}: no caption mentions an owl; name the clips that the LoRA was trained on")
    return trained


def _trained(item: Item, geometry: ClipGeometry) -> TrainedOwl:
    clip = read_clip(
        item.file,
        start=item.start or Fraction(0),
        frame_rate=geometry.frame_rate,
        mono=True,
        max_frames=geometry.num_frames,
        size=(geometry.height, geometry.width),
    )
    if clip.audio is None or clip.sampling_rate is None:
        raise InputError(f"{item.file} has no sound; name the clips that the LoRA was trained on")
    loudness = loudness_curve(clip.audio[0], clip.sampling_rate)
    return TrainedOwl(item.name, item.caption or "", read_owl(clip.frames, geometry.frame_rate), loudness)


def nearest_trained(
    owl: OwlFrames, wave: NDArray[np.float32], sampling_rate: int, trained: Sequence[TrainedOwl]
) -> Nearest:
    """Compare one clip with all trained ones. A replay has the rhythm of a trained clip, its place and its colours."""
    loudness = loudness_curve(wave, sampling_rate)
    distances = [max(_apart(owl.wings, other.owl.wings), _apart(loudness, other.loudness)) for other in trained]
    best = int(np.argmin(distances))
    replayed = any(
        distance < SAME_RHYTHM and _same_look(owl, other.owl)
        for distance, other in zip(distances, trained, strict=True)
    )
    return Nearest(trained[best].name, distances[best], replayed)


def loudness_curve(wave: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float64]:
    """Root mean square of [samples] in every 25 ms."""
    hop = round(LOUDNESS_SECONDS * sampling_rate)
    whole = len(wave) // hop
    result: NDArray[np.float64] = np.sqrt((wave[: whole * hop].astype(np.float64).reshape(whole, hop) ** 2).mean(1))
    return result


def _same_look(owl: OwlFrames, other: OwlFrames) -> bool:
    return (
        owl.colour == other.colour
        and owl.background == other.background
        and abs(owl.place - other.place) < SAME_PLACE / 64
    )


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """1 minus the correlation of two curves over their common length; 1 where one of them never changes."""
    length = min(len(a), len(b))
    first, second = a[:length] - a[:length].mean(), b[:length] - b[:length].mean()
    power = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return 1.0 - float((first * second).sum()) / power if power > 1e-9 else 1.0
