"""How far a clip's sound is from its picture, estimated from what begins to be seen and heard. Files are read in doctor.py.

Two lists of times, two frames or onsets each, agree by chance at some lag. An estimate therefore has to be matched more
often than chance allows, and by one lag only; otherwise the offset is unknown, which is no fault of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REACH = 1.0  # seconds either way
SLACK = 0.015  # seconds a beginning may be heard or seen inexactly, beside half a frame
FEWEST = 3  # pairs that an estimate rests on
CONFIDENT = 0.99
RIVAL = 0.7  # another lag with this share of the pairs leaves the question open
CLUSTERED = 0.5  # share of the rarer kind of event that has to be matched
STANDS_OUT = 0.25  # of the strongest beginning in the clip
VISIBLE = 1.0  # grey levels on average
APART = 0.06  # seconds


@dataclass(frozen=True)
class Offset:
    """seconds: sound minus picture, positive when the sound is late; None when it cannot be told.

    confidence: 0 to 1, that this many pairs at one lag are no chance. seen, heard: how many beginnings there are; pairs:
    how many of them lie together at the lag.
    """

    seconds: float | None
    confidence: float
    seen: int
    heard: int
    pairs: int


def begins_to_be_seen(times: Sequence[float], frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Seconds at which the picture leaves its usual state, from thumbnails [f, h, w] shown at `times`.

    The usual state is each pixel's median: a flash's end, which is a return to it, makes no sound.
    """
    if len(frames) < 3:
        return np.empty(0)
    away = np.abs(frames - np.median(frames, axis=0)).mean((1, 2), dtype=np.float64)
    leaving = np.maximum(np.diff(away), 0)
    before = np.stack([np.pad(leaving, (shift, 0))[: len(leaving)] for shift in (1, 2, 3)])
    rise = leaving - np.median(before, axis=0)
    floor = max(VISIBLE, STANDS_OUT * float(rise.max(initial=0.0)))
    found: list[int] = []
    for i in np.argsort(-rise, kind="stable"):
        if rise[i] < floor:
            break
        if all(abs(times[i + 1] - times[j + 1]) > APART for j in found):
            found.append(int(i))
    return np.sort([times[i + 1] for i in found])


def estimate_offset(
    seen: NDArray[np.float64], heard: NDArray[np.float64], seconds: float, frame_seconds: float
) -> Offset:
    """The lag at which the most of `seen` and `heard` (seconds, ascending) lie together, if that is no chance.

    seconds: the clip's length. frame_seconds: how long a frame is shown; times within half of it count as one.
    """
    reach = min(REACH, seconds / 2)
    lags = (heard[None, :] - seen[:, None]).ravel()
    lags = np.sort(lags[np.abs(lags) <= reach])
    slack = frame_seconds / 2 + SLACK
    if not len(lags):
        return Offset(None, 0.0, len(seen), len(heard), 0)
    pairs = np.array([_pairs(seen, heard, lag, slack) for lag in lags])
    best = int(max(np.flatnonzero(pairs == pairs.max()), key=lambda i: (np.sum(np.abs(lags - lags[i]) < slack), -i)))
    count = int(pairs[best])
    lag = float(np.median(lags[np.abs(lags - lags[best]) <= slack]))
    rival = int(pairs[np.abs(lags - lag) > 3 * slack].max(initial=0))
    confidence = 1 - _chance(len(seen), len(heard), count, seconds, slack, reach)
    rarer = min(len(seen), len(heard))
    known = count >= FEWEST and confidence >= CONFIDENT and rival <= RIVAL * count and count >= CLUSTERED * rarer
    return Offset(lag if known else None, confidence if known else 0.0, len(seen), len(heard), count)


def _pairs(seen: NDArray[np.float64], heard: NDArray[np.float64], lag: float, slack: float) -> int:
    """How many of the seen have a sound of their own at this lag."""
    count, after = 0, 0
    for time in seen + lag:
        while after < len(heard) and heard[after] < time - slack:
            after += 1
        if after < len(heard) and heard[after] <= time + slack:
            count, after = count + 1, after + 1
    return count


def _chance(seen: int, heard: int, pairs: int, seconds: float, slack: float, reach: float) -> float:
    """Upper bound of the probability that unrelated events agree so often at any of the lags tried."""
    expected = seen * heard * 2 * slack / seconds
    fewer = sum(math.exp(-expected + k * math.log(expected) - math.lgamma(k + 1)) for k in range(pairs))
    return min(1.0, max(0.0, 1 - fewer) * reach / slack)
