"""Pixels, latents, tokens and seconds, and how they map to each other. The only home of numbers like 8, 4, 960 and 48000.

Nothing here touches a tensor or a file. Legend: a clip has `num_frames` pixel frames = 1 + temporal_factor * k;
latent frame 0 holds pixel frame 0 and every later latent frame holds `temporal_factor` pixel frames.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from typing import TYPE_CHECKING

from phonofilm.errors import InputError
from phonofilm.untrusted import parse_fraction, shown

if TYPE_CHECKING:
    import numpy as np

MAX_SIDE = 8192
MAX_FRAMES = 100_000
NTSC_RATES = {Fraction(n * 1000, 1001): n for n in (24, 30, 48, 60, 120)}


def parse_frame_rate(rate: float | int | str | Fraction) -> Fraction:
    """The exact rate a number stands for: 23.976 -> 24000/1001, 29.97 -> 30000/1001, 24.0 -> 24.

    Accepts a number, a Fraction, or text such as "23.976" or "24000/1001".
    Raises InputError unless 1 <= rate <= 240.
    """
    try:
        exact = rate if isinstance(rate, Fraction) else parse_fraction(str(rate))
    except ValueError:
        raise InputError(f"frame rate {shown(repr(rate))} is not a number; use for example 24 or 23.976") from None
    for ntsc in NTSC_RATES:
        if abs(exact - ntsc) < Fraction(6, 1000):
            return ntsc
    if not 1 <= exact <= 240:
        raise InputError(f"frame rate {rate} is outside 1 to 240; use for example 24")
    return exact.limit_denominator(1001)


def parse_frame_size(size: str, known: Iterable[str]) -> tuple[int, int]:
    """ "640x352" (width x height, as it is spoken) -> (height, width), as tensors have them.

    known: names that may be given instead, for the error. Raises InputError for anything else.
    """
    match = re.fullmatch(r"(-?\d{1,9})x(-?\d{1,9})", size.strip().lower(), re.ASCII)
    if match is None:
        raise InputError(f"size {size!r:.80} is not WIDTHxHEIGHT; use for example 640x352, {', '.join(known)}")
    return int(match[2]), int(match[1])


@dataclass(frozen=True)
class ClipGeometry:
    """The sizes of one clip in every unit the model uses.

    `height`, `width` in pixels, `num_frames` pixel frames at `frame_rate` per second; the factors come from the
    checkpoint's VAE configs (`spatial_factor` pixels per latent side, `temporal_factor` frames per latent frame,
    `hop_length` samples at `sampling_rate` per audio latent) and `patch` from the video tower's patch size.
    """

    height: int
    width: int
    num_frames: int
    frame_rate: Fraction
    spatial_factor: int = 8
    temporal_factor: int = 4
    sampling_rate: int = 48000
    hop_length: int = 960
    patch: int = 2

    def __post_init__(self) -> None:
        multiple = self.spatial_factor * self.patch
        for name, count in (("height", self.height), ("width", self.width), ("num_frames", self.num_frames)):
            if not isinstance(count, Integral):
                raise InputError(f"{name} is {count!r}, a {type(count).__name__}; expected a whole number")
        for name, side in (("height", self.height), ("width", self.width)):
            if side <= 0 or side > MAX_SIDE:
                raise InputError(
                    f"{name} {side} is outside {multiple} to {MAX_SIDE}; use for example height 352 and width 640"
                )
            if side % multiple:
                raise InputError(
                    f"{name} {side} is not a multiple of {multiple}; use {nearest_multiple(side, multiple)}, or size=auto"
                )
        if self.num_frames <= 0 or self.num_frames > MAX_FRAMES:
            raise InputError(f"num_frames {self.num_frames} is outside 1 to {MAX_FRAMES}")
        if (self.num_frames - 1) % self.temporal_factor:
            raise InputError(
                f"num_frames {self.num_frames} is not 1 + a multiple of {self.temporal_factor}; "
                f"use {nearest_num_frames(self.num_frames, self.temporal_factor)}"
            )

    @property
    def seconds(self) -> Fraction:
        return self.num_frames / self.frame_rate

    @property
    def latent_frames(self) -> int:
        return (self.num_frames - 1) // self.temporal_factor + 1

    @property
    def latent_height(self) -> int:
        return self.height // self.spatial_factor

    @property
    def latent_width(self) -> int:
        return self.width // self.spatial_factor

    @property
    def num_samples(self) -> int:
        """Audio samples that fit the picture's length: floor(sampling_rate * seconds)."""
        return math.floor(self.sampling_rate * self.seconds)

    @property
    def audio_latents(self) -> int:
        return -(-self.num_samples // self.hop_length)

    @property
    def video_tokens(self) -> int:
        return self.latent_frames * (self.latent_height // self.patch) * (self.latent_width // self.patch)


def nearest_multiple(value: int, multiple: int) -> int:
    """The multiple of `multiple` nearest to `value`, at least one of them."""
    return max(multiple, round(value / multiple) * multiple)


def nearest_num_frames(num_frames: int, temporal_factor: int = 4) -> int:
    """The nearest legal frame count, 1 + temporal_factor * k."""
    return 1 + temporal_factor * max(0, round((num_frames - 1) / temporal_factor))


def frames_for_seconds(seconds: float, frame_rate: Fraction, temporal_factor: int = 4) -> int:
    """The legal frame count whose duration is nearest to `seconds`."""
    return nearest_num_frames(round(seconds * frame_rate), temporal_factor)


def clock_positions(
    latent_frames: int,
    frame_rate: float,
    audio_fps: float,
    *,
    first_frame_bias: bool = False,
    temporal_factor: int = 4,
) -> np.ndarray:
    """Where each video latent frame sits on the shared clock, counted in audio tokens. Returns float32 [latent_frames].

    An audio token's position is its index. Without `first_frame_bias` frame f sits at f * audio_fps / (frame_rate/4);
    with it frame 0 sits at 0 and frame f > 0 at (1/frame_rate + (f-1)*4/frame_rate) * audio_fps. Evaluated in float32,
    as the model was trained.
    """
    import numpy as np  # sizes are parsed before anything that large is imported

    index = np.arange(latent_frames, dtype=np.float32)
    if not first_frame_bias:
        return index * np.float32(audio_fps / (frame_rate / temporal_factor))
    seconds = np.float32(1.0 / frame_rate) + (index - 1) * np.float32(1.0 / (frame_rate / temporal_factor))
    seconds[:1] = 0.0
    return seconds * np.float32(audio_fps)
