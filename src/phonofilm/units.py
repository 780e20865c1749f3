"""Amounts of memory, spans of time and counts, from a person's words and in them. Decimal units: 1 GB is 10^9 bytes."""

from __future__ import annotations

import re

from phonofilm.errors import InputError

KILO, MEGA, GIGA, TERA = 10**3, 10**6, 10**9, 10**12
_UNITS = {
    "b": 1,
    "kb": KILO,
    "mb": MEGA,
    "gb": GIGA,
    "tb": TERA,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def counted(count: int, what: str) -> str:
    """ "1 clip", "2 clips": a count and what is counted, whose plural ends in s."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def parse_size(size: int | str, what: str, *, bare: int = 1) -> int:
    """Bytes of 5000000000, "5GB", "11.5 GiB" or "800MB".

    what: the option or argument, for the error. bare: bytes that a number without a unit counts.
    Raises InputError for anything else, and for less than one byte.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})\s*([a-z]*)", str(size).strip().lower())
    unit = None if match is None else bare if not match[2] else _UNITS.get(match[2])
    count = 0 if match is None or unit is None else round(float(match[1]) * unit)
    if count < 1:
        raise InputError(f"{what} {size!r} is no amount of memory; use for example 12GB or 800MB")
    return count


def format_size(nbytes: float) -> str:
    """77.7 GB, 3.8 MB, 512 B: one decimal from kB on."""
    value, units = nbytes, ["B", "kB", "MB", "GB", "TB"]
    while len(units) > 1 and value >= 1000:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def format_gigabytes(nbytes: float) -> str:
    """7.09 GB, 0.603 GB: three significant digits, always in GB, for amounts that are compared with each other."""
    return f"{nbytes / GIGA:.3g} GB"


def format_duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
