"""What settings of sampling can be at all, said without PyTorch: a server and a command refuse the rest at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phonofilm.errors import InputError

# float32 overflows far above, and no clip comes of scales or shifts that are nearly as large.
MOST_SCALE = 1000.0
LEAST_SHIFT, MOST_SHIFT = 0.001, 1000.0
SOLVER_NAMES = ("euler", "ab2", "dpmpp_2m", "unipc")
NO_CACHE = "none"
DEFAULT_THRESHOLD = 0.05


@dataclass(frozen=True)
class Range:
    """What a number may be, ends included, and an example for those who gave another."""

    least: float
    most: float
    example: float


RANGES = {
    "guidance_scale": Range(-MOST_SCALE, MOST_SCALE, 5.0),
    "audio_guidance_scale": Range(-MOST_SCALE, MOST_SCALE, 5.0),
    "modality_scale": Range(-MOST_SCALE, MOST_SCALE, 2.0),
    "video_shift": Range(LEAST_SHIFT, MOST_SHIFT, 5.0),
    "audio_shift": Range(LEAST_SHIFT, MOST_SHIFT, 5.0),
    "boundary_ratio": Range(0.0, 1.0, 0.9),
}


def check_range(name: str, value: float) -> float:
    """`value`, if the setting `name` (one of RANGES) can be that. Raises InputError, also for NaN."""
    allowed = RANGES[name]
    if not allowed.least <= value <= allowed.most:
        raise InputError(
            f"{name} {value:g} is outside {allowed.least:g} to {allowed.most:g}; use for example {allowed.example:g}"
        )
    return value


def check_interval(start: float, end: float) -> None:
    """Raises InputError unless the guided part of the steps lies within all of them."""
    if not 0 <= start < end <= 1:
        raise InputError(
            f"guidance_interval {start:g}:{end:g} is not within 0:1; use for example 0:0.6 for the first 60 %"
        )


def check_solver(name: str) -> str:
    """`name`, if there is such a solver."""
    if name not in SOLVER_NAMES:
        raise InputError(f"solver {name!r} is unknown; use one of {', '.join(SOLVER_NAMES)}")
    return name


def parse_cache(text: str) -> float | None:
    """ "easy:0.05" -> 0.05, "easy" -> the default threshold, "none" -> None. Raises InputError for anything else."""
    if text == NO_CACHE:
        return None
    name, colon, number = str(text).partition(":")
    try:
        threshold = float(number) if colon else DEFAULT_THRESHOLD
    except ValueError:
        threshold = math.nan
    if name != "easy" or not 0 < threshold < math.inf:
        raise InputError(
            f"cache {text!r} is unknown; use none, or easy:THRESHOLD, for example easy:{DEFAULT_THRESHOLD:g}"
        )
    return threshold


def cache_name(threshold: float | None) -> str:
    """The text that `parse_cache` reads as `threshold`."""
    return NO_CACHE if threshold is None else f"easy:{threshold:g}"
