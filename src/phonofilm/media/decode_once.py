"""How a picture's frames come out of a file: decoded for one reader, or once for several. What is made of them is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Decode = Callable[["InputContainer", "VideoStream"], "Iterator[VideoFrame]"]

MOST_BYTES = 384 * 2**20  # of frames as they are stored: 8 s at 720p take 267 MB


def decode_for_one(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The stream's frames, by as many threads as libav likes."""
    stream.thread_type = "AUTO"
    return container.decode(stream)


class DecodeOnce:
    """As `decode_for_one`, for several readers of one file's picture: the second one is given the frames that the first one was.

    Decodes in one thread, which costs less. Frames are kept once they have been read to the end without an error, and while they
    fit in 384 MiB; else the next reader decodes again.
    """

    def __init__(self) -> None:
        self._kept: list[VideoFrame] | None = None

    def __call__(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        if self._kept is not None:
            return iter(self._kept)
        stream.thread_type = "NONE"
        return self._keeping(container.decode(stream))

    def _keeping(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        kept: list[VideoFrame] = []
        nbytes = 0
        for frame in frames:
            nbytes += sum(plane.buffer_size for plane in frame.planes)
            if nbytes <= MOST_BYTES:
                kept.append(frame)
            else:
                kept.clear()
            yield frame
        if nbytes <= MOST_BYTES:
            self._kept = kept
