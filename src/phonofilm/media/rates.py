"""The constant frame rate that a file stands for, whatever its header makes of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import MediaError
from phonofilm.geometry import NTSC_RATES, parse_frame_rate
from phonofilm.media.opening import opened, picture_stream

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_WHOLE_RATES = [Fraction(rate) for rate in (10, 12, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120)]
_STANDARD_RATES = [*NTSC_RATES, *_WHOLE_RATES]
_SNAP = Fraction(1, 2500)
_UNKNOWN_COUNT = 100
_FRAMES_APART = Fraction(3, 2)


def source_rate(stream: VideoStream, path: str | Path) -> Fraction:
    """The frame rate that a file declares. Raises MediaError when there is none, InputError when it is outside 1 to 240."""
    declared = declared_rate(stream, path)
    if declared is None:
        raise MediaError(f"{path} does not say its frame rate; give frame_rate")
    return parse_frame_rate(declared)


def declared_rate(stream: VideoStream, path: str | Path) -> Fraction | None:
    """The nominal rate, unless the frames contradict it: then their average. Snapped to the standard rate it stands for."""
    if stream.codec_context.codec.canonical_name == "gif":
        return _gif_rate(path)
    average, nominal = stream.average_rate, stream.guessed_rate
    if nominal and average and nominal != average:
        # An odd last frame moves the average of a short clip; a variable rate moves it by far more than a frame in all.
        apart = abs(1 / nominal - 1 / average) * (stream.frames or _UNKNOWN_COUNT)
        return _snapped(nominal if apart < _FRAMES_APART / average else average)
    return _snapped(average or nominal)


def _snapped(declared: Fraction | None) -> Fraction | None:
    if not declared:
        return None
    near = (standard for standard in _STANDARD_RATES if abs(declared - standard) < standard * _SNAP)
    return next(near, Fraction(declared))


def _gif_rate(path: str | Path) -> Fraction | None:
    """Frames over seconds, or the whole standard rate that rounds to them. A gif has no header to say it, only delays."""
    with opened(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        assert stream.time_base is not None
        delays = [packet.duration for packet in container.demux(stream) if packet.size and packet.duration]
        tick = stream.time_base
    if not delays:
        return None
    seconds = Fraction(sum(delays)) * tick
    nearest = min(_WHOLE_RATES, key=lambda rate: abs(len(delays) / rate - seconds))
    return nearest if abs(len(delays) / nearest - seconds) <= tick else len(delays) / seconds
