"""Which part of a picture is read, and what reading gives: the two values that files and frame folders share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from phonofilm.media.images import Fit


@dataclass(frozen=True)
class Window:
    """Which part of the picture, in seconds after its first frame, and how it is to be sampled and fitted.

    plain: colours as ffmpeg's command line and OpenCV convert them, for figures that are defined by them.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    frame_rate: Fraction | None = None
    max_frames: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    plain: bool = False

    def on_frames_of(self, rate: Fraction) -> Window:
        """The same window starting at the nearest frame of a picture of this rate, so that the sound can start with it."""
        return replace(self, start=round(self.start * rate) / rate)

    def count(self, rate: Fraction) -> int | None:
        """The most frames the window can hold, or None when it is open."""
        limits = [] if self.end is None else [round((self.end - self.start) * rate)]
        limits += [] if self.max_frames is None else [self.max_frames]
        return min(limits) if limits else None


@dataclass(frozen=True)
class DecodedFrames:
    """frames uint8 [f, h, w, 3], or what was kept of each, at frame_rate; start is the file's own time of the first of them."""

    frames: np.ndarray
    frame_rate: Fraction
    start: Fraction
