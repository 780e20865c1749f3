"""A clip in memory: frames and waveform with their rates. Files are read and written elsewhere in this package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from phonofilm.errors import InputError
from phonofilm.geometry import parse_frame_rate

MAX_CHANNELS = 8


@dataclass(frozen=True, eq=False)
class Clip:
    """Picture and sound that start together at time 0.

    frames: uint8 [f, h, w, 3], RGB.
    frame_rate: frames per second; anything `parse_frame_rate` understands, kept as an exact Fraction.
    audio: float32 [channels, samples], nominally within -1..1, or None; its length is free (see `trimmed_to_picture`).
    sampling_rate: samples per second; given exactly when audio is.
    metadata: what made the clip (prompt, seed, settings), as plain JSON values.

    Raises InputError when a shape, dtype or rate is not as above.
    """

    frames: np.ndarray
    frame_rate: Fraction
    audio: np.ndarray | None = None
    sampling_rate: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_rate", parse_frame_rate(self.frame_rate))
        _check_frames(self.frames)
        if (self.audio is None) != (self.sampling_rate is None):
            raise InputError("audio and sampling_rate belong together: give both or neither")
        if self.audio is not None and self.sampling_rate is not None:
            _check_audio(self.audio, self.sampling_rate)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def height(self) -> int:
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        return int(self.frames.shape[2])

    @property
    def seconds(self) -> Fraction:
        """Length of the picture."""
        return self.num_frames / self.frame_rate

    def sample_at(self, frame: int) -> int:
        """The first sample that is heard with a frame; the clip must have a sound."""
        assert self.sampling_rate is not None
        return round(frame / self.frame_rate * self.sampling_rate)

    def _repr_html_(self) -> str:
        """How a notebook shows the clip: it plays there."""
        from phonofilm.media.notebook import clip_html

        return clip_html(self)

    def __repr__(self) -> str:
        channels = 0 if self.audio is None else self.audio.shape[0]
        sound = f"{channels} channel{'s' * (channels != 1)} at {self.sampling_rate} Hz" if channels else "no sound"
        rate = f"{float(self.frame_rate):g} fps"
        return f"Clip({self.num_frames} frames of {self.width}x{self.height} at {rate}, {float(self.seconds):.3f} s, {sound})"

    def trimmed_to_picture(self) -> Clip:
        """The same clip with exactly floor(sampling_rate * seconds) samples: cut, or padded with silence at the end."""
        if self.audio is None or self.sampling_rate is None:
            return self
        return replace(self, audio=fit_length(self.audio, picture_samples(self.seconds, self.sampling_rate)))


def picture_samples(seconds: Fraction, sampling_rate: int) -> int:
    """How many samples accompany a picture of this length: never longer than it, by less than one sample shorter."""
    return math.floor(sampling_rate * seconds)


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """[channels, n] -> [channels, samples], cut or padded with silence at the end."""
    if audio.shape[1] >= samples:
        return audio[:, :samples]
    return np.pad(audio, ((0, 0), (0, samples - audio.shape[1])))


def _check_frames(frames: np.ndarray) -> None:
    given = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise InputError(f"frames must be a uint8 array [frames, height, width, 3], got {given}")
    if 0 in frames.shape:
        raise InputError(f"frames must hold at least one pixel of one frame, got {given}")


def _check_audio(audio: np.ndarray, sampling_rate: int) -> None:
    given = f"{audio.dtype} {audio.shape}" if isinstance(audio, np.ndarray) else type(audio).__name__
    if not isinstance(audio, np.ndarray) or audio.dtype != np.float32 or audio.ndim != 2:
        raise InputError(f"audio must be a float32 array [channels, samples], got {given}")
    if not 1 <= audio.shape[0] <= MAX_CHANNELS:
        raise InputError(f"audio must have 1 to {MAX_CHANNELS} channels (the first axis), got {given}")
    if not isinstance(sampling_rate, int) or sampling_rate <= 0:
        raise InputError(f"sampling_rate must be a positive whole number such as 48000, got {sampling_rate!r}")
