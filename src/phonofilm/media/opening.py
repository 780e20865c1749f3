"""Opening media files: one place where libav's errors become ours, and where a file's time 0 is decided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError, MediaError
from phonofilm.media.readable import CODECS, DEMUXERS, MAX_STREAMS, MAX_VIDEO_PIXELS, check_rate
from phonofilm.untrusted import file_fault, shown

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# How PNG, JPEG, TIFF and BMP files begin.
STILL_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")


@contextmanager
def opened(path: str | Path) -> Iterator[InputContainer]:
    """A file open for reading. Any libav error inside the block becomes a MediaError, and every MediaError names the file.

    Only regular files of the kinds in readable.py are opened, by demuxers that read that one file and nothing else.
    """
    import av

    path = Path(path)
    fault = file_fault(path)
    if fault is not None:
        raise InputError(f"no file at {shown(path)}: {fault}")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty")
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(DEMUXERS),
        "codec_whitelist": ",".join(sorted(CODECS)),
        "max_streams": str(MAX_STREAMS),
    }
    try:
        with av.open(url(path), metadata_errors="replace", options=options) as container:
            yield container
    except MediaError as error:
        if str(path) in str(error):
            raise  # "raise error from error" would make it its own cause: a chain without an end
        raise MediaError(f"{path}: {error}") from error
    except av.FFmpegError as error:
        if _is_still_picture(path):
            raise MediaError(
                f"{path} is a picture, neither a clip nor a sound; give a clip, or give the picture as image="
            ) from error
        raise MediaError(
            f"{path} cannot be read: {_reason(error)}; it is damaged, cut off, or no media file of a kind that is read "
            "(docs/media.md lists them)"
        ) from error
    except MemoryError as error:
        raise MediaError(f"{path} does not fit into memory; read a part of it, or shrink it first") from error


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Any libav error inside the block, which writes `target`, becomes a MediaError that names it."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(f"cannot write {target}: {_reason(error)}; nothing was kept") from error


def _is_still_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:  # the caller says what libav says of it
        return False
    return head.startswith(STILL_PICTURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def url(path: Path) -> str:
    """The path as libav must see it, so that a name with a colon is not taken for a protocol."""
    return f"file:{path}"


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The first moving picture; the cover image of a song is none. Raises MediaError for one that is not read."""
    from av.stream import Disposition

    moving = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
    stream = next(moving, None)
    if stream is None:
        return None
    _check_codec(stream, "picture")
    if stream.width * stream.height > MAX_VIDEO_PIXELS or min(stream.width, stream.height) < 1:
        raise MediaError(
            f"the picture is {stream.width}x{stream.height} pixels; at most {MAX_VIDEO_PIXELS / 1e6:.0f} megapixels are "
            "read; scale it down first"
        )
    if not stream.codec_context.is_open:
        stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(MAX_VIDEO_PIXELS)}
    return stream


def sound_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track. Raises MediaError for one that is not read: an unknown codec, an absurd rate, many channels."""
    stream = next(iter(container.streams.audio), None)
    if stream is None:
        return None
    _check_codec(stream, "sound")
    check_rate(stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels)
    return stream


def _check_codec(stream: Stream, track: str) -> None:
    # libav gives a stream no codec context where it has no decoder for it, which PyAV's types do not say.
    context = getattr(stream, "codec_context", None)
    name = None if context is None else context.codec.canonical_name
    if name not in CODECS:
        raise MediaError(
            f"the {track} is coded as {name or 'something unknown'}, which is not read; convert it, for example to H.264 "
            "and AAC"
        )
    if stream.time_base is None:
        raise MediaError(f"the {track} has no clock, so its times mean nothing; the file is damaged")


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
