"""What a clip that strangers send may be: its frames are counted before any of them is kept, whatever the file says of itself.

A clip decides the size and the length of what is made of it, so that the limits of a request have to hold for it too.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from phonofilm.errors import InputError
from phonofilm.media.picture import read_picture
from phonofilm.media.window import Window
from phonofilm.serving.settings import RequestLimits

# The frames' own bytes once, in float32 for the result, and once more of that while it is put together.
COPIES = 9
MEMORY_SHARE = 0.8
# What a frame is shrunk to where frames are only counted.
_COUNTED = (8, 8)


def check_clip(path: Path, name: str, limits: RequestLimits, free: int | None = None) -> None:
    """Raises InputError for a clip beyond the limits, or that `free` bytes (default: what is free now) are too few for.

    Raises MediaError for one that cannot be read.
    """
    height, width = read_picture(path, Window(max_frames=1)).frames.shape[1:3]
    if max(height, width) > limits.max_side:
        raise InputError(f"{name} is {width}x{height}; at most {limits.max_side} pixels a side")
    free = psutil.virtual_memory().available if free is None else free
    by_memory = int(MEMORY_SHARE * free) // (COPIES * 3 * height * width)
    most = min(by_memory, limits.max_pixel_frames // (height * width))
    if len(read_picture(path, Window(max_frames=most + 1, size=_COUNTED)).frames) > most:
        why = "this machine has memory for" if most == by_memory else "this server takes"
        raise InputError(
            f"{name} has more than {most} frames of {width}x{height}, which is all that {why}; send a shorter one"
        )
