"""Decoding a file's picture by timestamps: upright, square pixels, RGB, at one constant frame rate. No sound here."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.geometry import NTSC_RATES, parse_frame_rate
from phonofilm.media.container import end_of, opened, picture_stream, start_of
from phonofilm.media.images import Fit, fit_image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

_STANDARD_RATES = [*NTSC_RATES, *map(Fraction, (10, 12, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120))]
_SNAP = Fraction(1, 2500)
_SEEK_AHEAD = 2
_HD_LINES = 720
_BT709, _UNSPECIFIED = 1, 2
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class Window:
    """Which part of the picture, in seconds after its first frame, and how it is to be sampled and fitted."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    frame_rate: Fraction | None = None
    max_frames: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "crop"

    def count(self, rate: Fraction) -> int | None:
        """The most frames the window can hold, or None when it is open."""
        limits = [] if self.end is None else [round((self.end - self.start) * rate)]
        limits += [] if self.max_frames is None else [self.max_frames]
        return min(limits) if limits else None


@dataclass(frozen=True)
class Picture:
    """frames uint8 [f, h, w, 3] at frame_rate; origin is the file's own time of the first frame of the file."""

    frames: np.ndarray
    frame_rate: Fraction
    origin: Fraction


def read_picture(path: str | Path, window: Window) -> Picture:
    """The frames of a window, resampled by timestamps to a constant rate: each frame goes to the nearest grid point and stays.

    Raises InputError for a window outside the picture or too large for memory; MediaError for a damaged or soundless-only file.
    """
    with opened(path) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no picture; read its sound with read_audio, or give a clip")
        stream.thread_type = "AUTO"
        frames = container.decode(stream)
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{path} has a picture track without a single frame that can be decoded")
        origin = _time(first, start_of(stream))
        rate = window.frame_rate or source_rate(stream, path)
        _check_memory(path, stream, first, window, rate)
        start = origin + window.start
        source: Iterator[VideoFrame] = chain([first], frames)
        if window.start > _SEEK_AHEAD:
            source = _sought(container, stream, start) or source
        images, end = _sampled(source, start, window, rate, stream.sample_aspect_ratio)
        limit = window.count(rate)
        if limit is None or len(images) < limit:
            _check_complete(path, stream, end)
    if not images:
        raise InputError(f"{path} is {float(end - origin):.3f} s long; there is nothing at {float(window.start):.3f} s")
    return Picture(stacked(images), rate, origin)


def source_rate(stream: VideoStream, path: str | Path) -> Fraction:
    """The rate a file declares, snapped to the standard rate its rounded timestamps stand for."""
    declared = stream.average_rate or stream.guessed_rate
    if not declared:
        raise MediaError(f"{path} does not say its frame rate; give frame_rate")
    for standard in _STANDARD_RATES:
        if abs(declared - standard) < standard * _SNAP:
            return standard
    return parse_frame_rate(Fraction(declared))


def to_rgb(frame: VideoFrame, aspect: Fraction | None) -> np.ndarray:
    """uint8 [h, w, 3]: colours by the file's own matrix and range, square pixels, turned as the display matrix says.

    `aspect` is the width of a stored pixel over its height; None or 0 where the file does not say.
    """
    from av.video.reformatter import Interpolation

    # Untagged files follow the old convention: BT.709 from 720 lines on, BT.601 below.
    untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    rgb = frame.reformat(
        format="rgb24",
        width=max(1, round(frame.width * (aspect or 1))),
        src_colorspace=_BT709 if untagged_hd else None,
        interpolation=Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND,
    )
    return _upright(rgb.to_ndarray(), frame)


def _sampled(
    frames: Iterator[VideoFrame], start: Fraction, window: Window, rate: Fraction, aspect: Fraction | None
) -> tuple[list[np.ndarray], Fraction]:
    """One image per grid point from `start` on, and the file time at which the last decoded frame ends."""
    images: list[np.ndarray] = []
    limit = window.count(rate)
    held: VideoFrame | None = None
    end = start

    def hold_until(index: int) -> None:
        if held is not None and index > len(images):
            images.extend([_fitted(to_rgb(held, aspect), window)] * (index - len(images)))

    for frame in frames:
        time = _time(frame, end)
        index = math.floor((time - start) * rate + Fraction(1, 2))
        if limit is not None and index >= limit:
            hold_until(limit)
            return images, end
        hold_until(index)
        held = frame
        end = time + (_duration(frame) or 1 / rate)
    last = math.floor((end - start) * rate + Fraction(1, 2))
    hold_until(last if limit is None else min(last, limit))
    return images, end


def _sought(container: InputContainer, stream: VideoStream, start: Fraction) -> Iterator[VideoFrame] | None:
    """Decoded frames from a key frame at or before `start` (a file time); None where the format cannot seek."""
    import av

    assert stream.time_base is not None
    for time in (start, start_of(stream)):
        try:
            container.seek(int(time / stream.time_base), stream=stream)
        except av.FFmpegError:
            return None
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and _time(first, start) <= start:
            return chain([first], frames)
    return iter(())


def _fitted(image: np.ndarray, window: Window) -> np.ndarray:
    if window.size is None or image.shape[:2] == window.size:
        return image
    from PIL import Image

    return np.asarray(fit_image(Image.fromarray(image), *window.size, window.fit))


def stacked(images: list[np.ndarray]) -> np.ndarray:
    """One array, giving each image back to memory as it is copied."""
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        raise MediaError(f"the picture changes its size midway ({sorted(sizes)}); give size= to fit all frames to one")
    frames = np.empty((len(images), *images[0].shape), np.uint8)
    for index in reversed(range(len(images))):
        frames[index] = images.pop()
    return frames


def _upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Apply the display matrix: x' = a x + c y, y' = b x + d y, to the nearest quarter turn or mirror image."""
    from av.sidedata.sidedata import SideData, Type

    items: Iterable[Any] = frame.side_data
    matrix = next((item for item in items if isinstance(item, SideData) and item.type == Type.DISPLAYMATRIX), None)
    if matrix is None:
        return image
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    if abs(b) > abs(a):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _check_memory(path: str | Path, stream: VideoStream, first: VideoFrame, window: Window, rate: Fraction) -> None:
    """Refuse early what would not fit in memory; a film read whole by mistake must not take the machine down."""
    import psutil

    end = end_of(stream)
    expected = window.count(rate)
    if expected is None:
        expected = 0 if end is None else round((end - start_of(stream) - window.start) * rate)
    height, width = window.size or (first.height, first.width)
    needed = expected * height * width * 3
    available = psutil.virtual_memory().available
    if needed > available * _MEMORY_SHARE:
        raise InputError(
            f"{expected} frames of {path} at {width}x{height} need {needed / 2**30:.1f} GiB of memory and "
            f"{available / 2**30:.1f} GiB are free; read a part of it (start, end, max_frames) or give a smaller size"
        )


def _check_complete(path: str | Path, stream: VideoStream, end: Fraction) -> None:
    promised = end_of(stream)
    if promised is None:
        return
    missing = promised - end
    if missing > max(3 / (stream.average_rate or Fraction(24)), (promised - start_of(stream)) / 20):
        raise MediaError(
            f"{path} is cut off: its picture should end at {float(promised):.2f} s but ends at {float(end):.2f} s"
        )


def _time(frame: VideoFrame, otherwise: Fraction) -> Fraction:
    if frame.pts is None or frame.time_base is None:
        return otherwise
    return frame.pts * frame.time_base


def _duration(frame: VideoFrame) -> Fraction | None:
    if not frame.duration or frame.time_base is None:
        return None
    return frame.duration * frame.time_base
