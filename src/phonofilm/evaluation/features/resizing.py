"""Pictures resized and cropped as torchvision does it on tensors. How frames are chosen and normalised is for the metrics."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def resize_short_side(frames: Tensor, size: int) -> Tensor:
    """uint8 [n, channels, h, w] -> uint8 with the shorter side at `size`: bicubic with antialiasing.

    The longer side is cut down to a whole number of pixels. It is computed in integers, as there: by way of float,
    single pixels would differ by up to 20.
    """
    height, width = frames.shape[-2:]
    short, long = min(height, width), max(height, width)
    longer = int(size * long / short)
    target = (size, longer) if height <= width else (longer, size)
    if target == (height, width):
        return frames
    return functional.interpolate(frames, target, mode="bicubic", align_corners=False, antialias=True)


def crop_centre(frames: Tensor, size: int) -> Tensor:
    """[..., h, w] -> [..., size, size], the half pixels rounded to even, as Python rounds."""
    top, left = (round((side - size) / 2.0) for side in frames.shape[-2:])
    return frames[..., top : top + size, left : left + size]


def crop_three(frames: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """[..., h, w] -> three times [..., size, size]: the two ends and the middle of the longer side."""
    height, width = frames.shape[-2:]
    top, left = -((size - height) // 2), -((size - width) // 2)
    if height > width:
        return tuple(frames[..., at : at + size, left : left + size] for at in (0, top, height - size))  # type: ignore[return-value]
    return tuple(frames[..., top : top + size, at : at + size] for at in (0, left, width - size))  # type: ignore[return-value]
