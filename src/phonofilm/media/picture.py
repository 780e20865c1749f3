"""Decoding a file's picture by timestamps, at one constant frame rate. How pixels are converted is in pixels.py."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.media.budget import MEMORY_SHARE, FrameBudget
from phonofilm.media.decode_once import Decode, decode_for_one
from phonofilm.media.opening import end_of, opened, picture_stream, start_of
from phonofilm.media.pixels import fitted, shown_size, stacked, to_plain_rgb, to_rgb
from phonofilm.media.rates import declared_rate, source_rate
from phonofilm.media.readable import MAX_HOLE
from phonofilm.media.window import DecodedFrames, Window

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

Convert = Callable[["VideoFrame", Fraction | None], np.ndarray]

_SEEK_AHEAD = 2
# What stands for a frame where frames are counted; its bytes bound how many times one may be repeated.
_COUNTED = np.zeros((8, 8, 3), np.uint8)
# No format stores a frame in fewer bytes, headers included; what a header claims beyond that is not believed.
_SMALLEST_FRAME = 16


@dataclass(frozen=True)
class PictureSize:
    """Frames, at a constant rate, of a height and width in square pixels, as stored: not yet turned."""

    frames: int
    height: int
    width: int
    frame_rate: Fraction


@dataclass(frozen=True)
class EveryFrame:
    """Each frame that decodes, once, whenever it is shown: [f, h, w], or what was kept of each.

    times: float64 [f], seconds after the first, ascending. average_rate: frames per second over the whole track, which OpenCV
    calls the frame rate. regular: whether these are also the frames at a constant rate, those that `read_picture` gives.
    """

    frames: np.ndarray
    times: np.ndarray
    average_rate: Fraction
    regular: bool


def read_every_frame(path: str | Path, decode: Decode, kept: Callable[[np.ndarray], np.ndarray]) -> EveryFrame:
    """The frames as OpenCV reads them, colours too. kept: what is kept of a frame [h, w, 3]. Raises as `read_picture` does."""
    from av.video.reformatter import VideoReformatter

    reformatter, room = VideoReformatter(), FrameBudget()
    images: list[np.ndarray] = []
    places: list[int] = []
    times: list[float] = []
    with opened(path) as container:
        stream, first, frames = _begun(path, container, decode)
        rate = source_rate(stream, path)
        _check_memory(path, container, first, Window(), rate)
        origin = end = _time(first, start_of(stream))
        for frame in chain([first], frames):
            time = _time(frame, end)
            images.append(kept(to_plain_rgb(frame, reformatter)))
            room.take(images[-1].nbytes, 1, 1 / rate)
            places.append(_place(time - origin, rate))
            times.append(float(time - origin))
            end = time + (_duration(frame) or 1 / rate)
        _check_complete(path, stream, end)
        assert stream.time_base is not None
        average = stream.average_rate or 1 / stream.time_base
    places.append(_place(end - origin, rate))
    ascending = np.maximum.accumulate(np.array(times))  # some files have two frames in the wrong order
    return EveryFrame(stacked(images), ascending, average, places == list(range(len(places))))


def read_picture(
    path: str | Path,
    window: Window,
    decode: Decode = decode_for_one,
    kept: Callable[[np.ndarray], np.ndarray] = lambda rgb: rgb,
) -> DecodedFrames:
    """The frames of a window at a constant rate: each frame goes to the grid point nearest to its timestamp and stays.

    kept: what is kept of a frame [h, w, 3], such as its brightness.
    Raises InputError for a window outside the picture or too large for memory, MediaError for a damaged file or one
    without a picture.
    """
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()

    def convert(frame: VideoFrame, aspect: Fraction | None) -> np.ndarray:
        rgb = to_plain_rgb(frame, reformatter) if window.plain else to_rgb(frame, aspect, reformatter)
        return kept(fitted(rgb, window))

    images, rate, start = _read(path, window, convert, decode)
    return DecodedFrames(stacked(images), rate, start)


def measure_picture(path: str | Path, max_frames: int) -> PictureSize:
    """How large and long a picture is, by decoding it: what the file says of itself counts for nothing. No frame is kept.

    Counts to `max_frames` and no further. Raises as `read_picture` does, and MediaError where the size changes midway.
    """
    sizes: set[tuple[int, int]] = set()

    def measure(frame: VideoFrame, aspect: Fraction | None) -> np.ndarray:
        sizes.add(shown_size(frame, aspect))
        if len(sizes) > 1:
            raise MediaError(f"the picture changes its size midway ({sorted(sizes)}); bring it to one size first")
        return _COUNTED

    counted, rate, _ = _read(path, Window(max_frames=max_frames, size=_COUNTED.shape[:2]), measure)
    ((height, width),) = sizes
    return PictureSize(len(counted), height, width, rate)


def _read(
    path: str | Path, window: Window, convert: Convert, decode: Decode = decode_for_one
) -> tuple[list[np.ndarray], Fraction, Fraction]:
    """What `convert` makes of each frame of the window, their rate, and the file's time of the first."""
    with opened(path) as container:
        stream, first, frames = _begun(path, container, decode)
        origin = _time(first, start_of(stream))
        rate = window.frame_rate or source_rate(stream, path)
        window = window.on_frames_of(declared_rate(stream, path) or rate)
        _check_memory(path, container, first, window, rate)
        start = origin + window.start
        source: Iterator[VideoFrame] = chain([first], frames)
        if window.start > _SEEK_AHEAD:
            source = _sought(container, stream, start) or source
        aspect = stream.sample_aspect_ratio
        images, end = _sampled(source, start, window, rate, lambda frame: convert(frame, aspect))
        limit = window.count(rate)
        if limit is None or len(images) < limit:
            _check_complete(path, stream, end)
    if not images:
        raise InputError(f"{path} is {float(end - origin):.3f} s long; there is nothing at {float(window.start):.3f} s")
    return images, rate, start


def _begun(
    path: str | Path, container: InputContainer, decode: Decode
) -> tuple[VideoStream, VideoFrame, Iterator[VideoFrame]]:
    """The picture's stream, its first frame, and those that follow."""
    stream = picture_stream(container)
    if stream is None and not container.streams.audio:
        raise MediaError(f"{path} has neither picture nor sound; it is damaged or cut off")
    if stream is None:
        raise MediaError(f"{path} has no picture, only sound; give a clip, or give this file as audio=")
    frames = decode(container, stream)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"{path} has a picture track without a single frame that can be decoded")
    return stream, first, frames


def _place(time: Fraction, rate: Fraction) -> int:
    """The frame of a constant rate that is nearest to a time after the first one."""
    return math.floor(time * rate + Fraction(1, 2))


def _sampled(
    frames: Iterator[VideoFrame],
    start: Fraction,
    window: Window,
    rate: Fraction,
    image_of: Callable[[VideoFrame], np.ndarray],
) -> tuple[list[np.ndarray], Fraction]:
    """One image per grid point from `start` on, and the file time at which the last decoded frame ends."""
    images: list[np.ndarray] = []
    limit = window.count(rate)
    held: VideoFrame | None = None
    end = start
    room = FrameBudget()

    def hold_until(index: int) -> None:
        if held is not None and index > len(images):
            times = index - len(images)
            image = image_of(held)
            room.take(image.nbytes, times, times / rate)
            images.extend([image] * times)

    for frame in frames:
        time = _time(frame, end)
        if held is not None and _time(held, time) - time > MAX_HOLE:
            raise MediaError(
                f"the picture's clock goes back by {float(_time(held, time) - time):,.1f} s; the file is damaged: bring it to a "
                "constant frame rate first"
            )
        index = _place(time - start, rate)
        if limit is not None and index >= limit:
            hold_until(limit)
            return images, end
        hold_until(index)
        held = frame
        end = time + (_duration(frame) or 1 / rate)
    last = _place(end - start, rate)
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


def _check_memory(
    path: str | Path, container: InputContainer, first: VideoFrame, window: Window, rate: Fraction
) -> None:
    """Refuse early what would not fit in memory; a film read whole by mistake must not take the machine down."""
    import psutil

    # The one duration that every container states, in microseconds; 0 frames where even that is missing. It is only a claim.
    lasting = Fraction(container.duration or 0, 1_000_000)
    expected = max(0, round((lasting - window.start) * rate))
    expected = min(expected, Path(path).stat().st_size // _SMALLEST_FRAME)
    limit = window.count(rate)
    expected = expected if limit is None else min(expected, limit)
    height, width = window.size or (first.height, first.width)
    needed = expected * height * width * 3
    available = psutil.virtual_memory().available
    if needed > available * MEMORY_SHARE:
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
