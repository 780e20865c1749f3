"""What a clip or sound that strangers send may be: it is decoded and counted first, whatever it says of itself.

A clip decides the size and the length of what is made of it, and a sound the length, so that the limits of a request have to
hold for them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from pathlib import Path

import psutil

from phonofilm.errors import InputError
from phonofilm.media.picture import measure_picture
from phonofilm.media.sound import read_audio
from phonofilm.serving.settings import RequestLimits

# Bytes that a pixel of a frame may take while a clip is worked on: 3 as it was read, 3 drawn out to the model's length, 12 as
# the floats that the model makes, 4 and 3 as the pictures that are written.
BYTES_PER_PIXEL = 27
MEMORY_SHARE = 0.8
CLIPS, SOUNDS = ("video", "continue_from"), ("audio", "voice")


def check_files(files: Mapping[str, Path], limits: RequestLimits) -> None:
    """`check_clip` and `check_sound` of a request's files, by the options that take them."""
    for name, path in files.items():
        if name in CLIPS:
            check_clip(path, name, limits)
        elif name in SOUNDS:
            check_sound(path, name, limits)


def check_clip(path: Path, name: str, limits: RequestLimits, free: int | None = None) -> None:
    """Raises InputError for a clip beyond the limits, or that `free` bytes (default: what is free now) are too few for.

    Raises MediaError for one that cannot be read.
    """
    first = measure_picture(path, 1)
    size, pixels = f"{first.width}x{first.height}", first.width * first.height
    if max(first.height, first.width) > limits.max_side:
        raise InputError(f"{name} is {size}; at most {limits.max_side} pixels a side; send a smaller one")
    free = psutil.virtual_memory().available if free is None else free
    by_length = floor(_exactly(limits.max_seconds) * first.frame_rate)
    by_memory = int(MEMORY_SHARE * free) // (BYTES_PER_PIXEL * pixels)
    most = min(by_length, by_memory, limits.max_pixel_frames // pixels)
    if measure_picture(path, most + 1).frames <= most:
        return
    if most == by_length:
        raise InputError(
            f"{name} is longer than {limits.max_seconds:g} s, the most that this server takes; send a shorter one"
        )
    why = "this machine has memory for" if most == by_memory else "this server takes"
    raise InputError(f"{name} has more than {most} frames of {size}, which is all that {why}; send a shorter one")


def check_sound(path: Path, name: str, limits: RequestLimits) -> None:
    """Raises InputError for a sound beyond the limits, MediaError for one that cannot be read."""
    most = _exactly(limits.max_seconds)
    wave, rate = read_audio(path, mono=True, seconds=most + 1)
    if wave.shape[1] > most * rate:
        raise InputError(
            f"{name} is longer than {limits.max_seconds:g} s, the most that this server takes; send a shorter one"
        )


def _exactly(seconds: float) -> Fraction:
    """0.6 as six tenths, which the float is a little less than."""
    return Fraction(seconds).limit_denominator(1000)
