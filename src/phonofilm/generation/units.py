"""Sizes and durations in words."""

from __future__ import annotations

import math


def format_size(nbytes: float) -> str:
    """77.7 GB, 3.8 MB, 512 B."""
    exponent = min(4, int(math.log10(max(1.0, nbytes)) // 3))
    unit = ("B", "kB", "MB", "GB", "TB")[exponent]
    return f"{nbytes / 1000**exponent:.{1 if exponent else 0}f} {unit}"


def format_duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
