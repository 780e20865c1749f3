"""Opening media files: one place where libav's errors become ours, and where a file's time 0 is decided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError, MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream


@contextmanager
def opened(path: str | Path) -> Iterator[InputContainer]:
    """A file open for reading. Any libav error inside the block becomes a MediaError that names the file."""
    import av

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file at {path}" + (" (that is a folder)" if path.is_dir() else ""))
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty")
    try:
        with av.open(url(path), metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(
            f"{path} cannot be read: {error.strerror}; it is damaged, cut off, or not a media file"
        ) from error


def url(path: Path) -> str:
    """The path as libav must see it, so that a name with a colon is not taken for a protocol."""
    return f"file:{path}"


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The first moving picture; the cover image of a song is none."""
    from av.stream import Disposition

    moving = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(moving, None)


def sound_stream(container: InputContainer) -> AudioStream | None:
    return next(iter(container.streams.audio), None)


def start_of(stream: Stream) -> Fraction:
    """When the stream's first picture or sample is presented, in seconds of the file's own clock."""
    if stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return stream.start_time * stream.time_base


def end_of(stream: Stream) -> Fraction | None:
    """When the stream ends on the same clock, or None where the file does not say."""
    if stream.duration is None or stream.time_base is None:
        return None
    return start_of(stream) + stream.duration * stream.time_base


def is_mp4_family(container: InputContainer) -> bool:
    """mp4, mov, m4a: formats whose stream durations are exact and say which decoded samples are padding."""
    return "mp4" in container.format.name.split(",")


def comment(container: InputContainer) -> str | None:
    """The container's comment tag; Matroska writes the name in capitals."""
    lower = {key.lower(): value for key, value in container.metadata.items()}
    return lower.get("comment")
