"""From a decoded frame to RGB pixels as they are meant to be seen: colours, pixel shape, rotation, size."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from phonofilm.errors import MediaError
from phonofilm.media.images import fit_image
from phonofilm.media.readable import MAX_VIDEO_PIXELS
from phonofilm.media.window import Window

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

_HD_LINES = 720
_BT709, _UNSPECIFIED = 1, 2


def to_rgb(frame: VideoFrame, aspect: Fraction | None, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 [h, w, 3]: colours by the file's own matrix and range, square pixels, turned as the display matrix says.

    `aspect` is the width of a stored pixel over its height; None or 0 where the file does not say. `reformatter` is kept from
    frame to frame: to make one costs as much as to convert a frame.
    """
    from av.video.reformatter import Interpolation

    _, width = shown_size(frame, aspect)
    # Untagged files follow the old convention: BT.709 from 720 lines on, BT.601 below.
    untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    rgb = reformatter.reformat(
        frame,
        format="rgb24",
        width=width,
        src_colorspace=_BT709 if untagged_hd else None,
        interpolation=Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND,
    )
    return _upright(rgb.to_ndarray(), frame)


def shown_size(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """A frame's height and width in square pixels, before it is turned; `aspect` as in `to_rgb`.

    Raises MediaError where the shape of its pixels makes it larger than any picture that is read.
    """
    width = max(1, round(frame.width * (aspect or 1)))
    if frame.height * width > MAX_VIDEO_PIXELS:
        raise MediaError(
            f"the picture is {frame.width}x{frame.height} pixels that are each {float(aspect or 1):g} times as wide as high: "
            f"{width}x{frame.height}, and at most {MAX_VIDEO_PIXELS / 1e6:.0f} megapixels are read; the file is damaged"
        )
    return frame.height, width


def to_plain_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 [h, w, 3] as ffmpeg's command line and OpenCV convert it: nearest chroma, BT.601 unless tagged, stored shape.

    `reformatter` as in `to_rgb`.
    """
    return reformatter.reformat(frame, format="rgb24").to_ndarray()


def fitted(image: np.ndarray, window: Window) -> np.ndarray:
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
