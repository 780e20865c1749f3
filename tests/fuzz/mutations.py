"""Breaking files and values at random, but the same way for the same seed."""

from __future__ import annotations

import copy
import random
from typing import Any

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 255, 10**6, 10**12, 10**30, -(10**9), 0.0, -0.5, 1e-30, 1e30, 1e300),
    *("", "x", "\0", "../x", "/dev/zero", "a" * 5000, "\ud800", "\x1b[31m", "1e999999999", "24/0", "nan", "-inf", "[1"),
    *([], [1], [[]], [None], ["x"], {}, {"a": 1}, {"path": 1}, [1] * 2000, [[[[[[[[]]]]]]]]),
)


def broken_bytes(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to eight changes: bits, runs, numbers, cuts, repeats."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(max(1, len(out)))
        # Headers say more per byte than what follows them.
        if rng.random() < 0.6:
            at = min(at, rng.randrange(1, 400))
        length = rng.choice((1, 1, 2, 4, 8, 16, 64, 300))
        match rng.randrange(7):
            case 0:
                out[at : at + 1] = bytes([(out[at] if at < len(out) else 0) ^ (1 << rng.randrange(8))])
            case 1:
                out[at : at + length] = rng.randbytes(length)
            case 2:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(EXTREMES) % (1 << (8 * width))
                out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.randbytes(length)
            case 5:
                out[at:at] = out[at : at + length] * rng.choice((1, 2, 50))
            case 6 if rng.random() < 0.3:
                del out[rng.randrange(len(out) + 1) :]
    return bytes(out)


def broken_value(value: Any, rng: random.Random) -> Any:
    """JSON with one to three changes: a value replaced by a nasty one, an entry removed, renamed or added."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [(None, None, value), *_places(value)]
        parent, key, _ = rng.choice(places)
        nasty = copy.deepcopy(rng.choice(NASTY))
        if parent is None:
            if rng.random() < 0.05:
                return nasty
        elif rng.random() < 0.7:
            parent[key] = nasty
        elif rng.random() < 0.5:
            del parent[key]
        elif isinstance(parent, dict):
            parent[str(nasty)[:100]] = parent.pop(key)
        else:
            parent.append(nasty)
    return value


def _places(value: Any) -> list[tuple[Any, Any, Any]]:
    """(parent, key, child) of everything inside; long lists by their ends only."""
    found = []
    if isinstance(value, dict):
        found = [(value, key, inner) for key, inner in value.items()]
    elif isinstance(value, list):
        found = [
            (value, index, value[index]) for index in {0, len(value) // 2, len(value) - 1} if 0 <= index < len(value)
        ]
    return found + [place for _, _, inner in found for place in _places(inner)]
