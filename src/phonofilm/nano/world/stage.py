"""What every scene of the world is given (grid of times, picture size, rates) and gives back (`WorldClip`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """The clip's clock and canvas, before anything is on it."""

    size: int
    num_frames: int
    frame_rate: Fraction
    sampling_rate: int

    @property
    def seconds(self) -> float:
        """Length of the picture."""
        return float(self.num_frames / self.frame_rate)

    @property
    def num_samples(self) -> int:
        """Length of the sound: never longer than the picture."""
        return math.floor(self.sampling_rate * self.num_frames / self.frame_rate)

    @property
    def frame_times(self) -> Array:
        """[f] seconds: frame i shows the state of the world at i / frame_rate."""
        return (np.arange(self.num_frames) / float(self.frame_rate)).astype(np.float32)

    @property
    def sample_times(self) -> NDArray[np.float64]:
        """[samples] seconds."""
        return np.arange(self.num_samples) / self.sampling_rate


@dataclass(frozen=True)
class Event:
    """One thing that is seen and heard at the same instant."""

    time: float
    kind: str


@dataclass(frozen=True)
class WorldClip:
    """A rendered clip with its caption and with the hidden state that made it.

    `frames` uint8 [f, h, w, 3]; `audio` float32 [samples], |x| < 0.9, floor(rate * frames / fps) samples.
    `events` and `attributes` exist for measuring only: training reads frames, audio and caption.
    """

    frames: NDArray[np.uint8]
    audio: Array
    caption: str
    events: tuple[Event, ...]
    attributes: Mapping[str, str]
    seed: int
    frame_rate: Fraction
    sampling_rate: int


@dataclass(frozen=True)
class Scene:
    """What a scene hands to `make_clip`: float frames in 0..255, sound, truth, and phrases for the caption."""

    frames: Array
    audio: Array
    events: tuple[Event, ...]
    attributes: Mapping[str, str]
    caption: str
