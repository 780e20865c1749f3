"""What can be known of a clip from its headers and its first frame: length, size as seen, rate, whether it has sound."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import MediaError
from phonofilm.media.opening import end_of, opened, picture_stream, sound_stream, start_of
from phonofilm.media.pixels import to_rgb
from phonofilm.media.rates import declared_rate

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

DEFAULT_RATE = Fraction(24)


@dataclass(frozen=True)
class Facts:
    """height, width: pixels as they are seen, after rotation and pixel shape. seconds: the picture's length. rate: the
    frames per second that the file declares. start: the file's own time of the first frame."""

    height: int
    width: int
    seconds: Fraction
    rate: Fraction
    start: Fraction
    has_sound: bool


def probe(path: Path) -> Facts:
    """Decodes one frame. Raises MediaError for a file that is damaged, has no picture or does not tell its length."""
    from av.video.reformatter import VideoReformatter

    with opened(path) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no picture")
        rate = declared_rate(stream, path) or DEFAULT_RATE
        seconds = _length(container, stream, path)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise MediaError(f"{path} has a picture track without a single frame that can be decoded")
        height, width = to_rgb(frame, stream.sample_aspect_ratio, VideoReformatter()).shape[:2]
        start = start_of(stream) if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
        return Facts(height, width, seconds, rate, start, sound_stream(container) is not None)


def _length(container: InputContainer, stream: VideoStream, path: Path) -> Fraction:
    """Seconds of picture. Formats that tell only the whole file's length (Matroska) are counted by their packets."""
    end = end_of(stream)
    if end is not None:
        return end - start_of(stream)
    assert stream.time_base is not None
    rate = declared_rate(stream, path) or DEFAULT_RATE
    times = [p.pts * stream.time_base for p in container.demux(stream) if p.size and p.pts is not None]
    container.seek(0)
    if not times:
        raise MediaError(f"{path} does not tell how long its picture is")
    return max(times) - min(times) + 1 / rate
