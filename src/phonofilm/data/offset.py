"""How far sound is from its picture, estimated from what begins to be seen and heard, in one clip or in several together.

Two lists of times, two frames or onsets each, agree by chance at some lag. An estimate therefore has to be matched more
often than chance allows, and by one lag only; otherwise the offset is unknown, which is no fault of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_OFFSET = 1.0  # seconds either way
SLACK = 0.015  # seconds a beginning may be heard or seen inexactly, beside half a frame
FEWEST = 3  # pairs that an estimate rests on
CONFIDENT = 0.99
RIVAL = 0.7  # another lag with this share of the pairs leaves the question open
CLUSTERED = 0.5  # share of the rarer kind of event that has to be matched
STRONG_EVENT = 0.25  # of the strongest beginning in the clip
VISIBLE = 1.0  # grey levels on average
EVENTS_APART = 0.06  # seconds


MOST_LAGS = 400  # more of them are tried on a grid


@dataclass(frozen=True)
class Beginnings:
    """Times, ascending seconds, at which something begins to be seen and to be heard in a clip of `seconds`.

    frame_seconds: how long a frame is shown; times within half of it count as one.
    """

    seen: NDArray[np.float64]
    heard: NDArray[np.float64]
    seconds: float
    frame_seconds: float

    @property
    def slack(self) -> float:
        """Seconds by which a pair may differ from the lag."""
        return self.frame_seconds / 2 + SLACK

    @property
    def reach(self) -> float:
        """The largest lag that is looked for."""
        return min(LARGEST_OFFSET, self.seconds / 2)

    def lags(self) -> NDArray[np.float64]:
        """Of every sound behind every event, within reach, ascending."""
        lags = (self.heard[None, :] - self.seen[:, None]).ravel()
        return np.sort(lags[np.abs(lags) <= self.reach])

    def pairs(self, lag: float) -> int:
        """How many of the seen have a sound of their own at this lag."""
        count, after = 0, 0
        for time in self.seen + lag:
            while after < len(self.heard) and self.heard[after] < time - self.slack:
                after += 1
            if after < len(self.heard) and self.heard[after] <= time + self.slack:
                count, after = count + 1, after + 1
        return count


@dataclass(frozen=True)
class Offset:
    """seconds: sound minus picture, positive when the sound is late; None when it is unknown.

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

    The usual state is each pixel's median: a flash's end, which is a return to it, makes no sound. What the first frame shows
    that has it has begun since the frame before, on average half way: without that, all sound would seem half a frame early.
    """
    if len(frames) < 3:
        return np.empty(0)
    away = np.abs(frames - np.median(frames, axis=0)).mean((1, 2), dtype=np.float64)
    leaving = np.maximum(np.diff(away), 0)
    before = np.stack([np.pad(leaving, (shift, 0))[: len(leaving)] for shift in (1, 2, 3)])
    rise = leaving - np.median(before, axis=0)
    floor = max(VISIBLE, STRONG_EVENT * float(rise.max(initial=0.0)))
    found: list[int] = []
    for i in np.argsort(-rise, kind="stable"):
        if rise[i] < floor:
            break
        if all(abs(times[i + 1] - times[j + 1]) > EVENTS_APART for j in found):
            found.append(int(i))
    return np.sort([(times[i] + times[i + 1]) / 2 for i in found])


def estimate_offset(clips: Sequence[Beginnings]) -> Offset:
    """The one lag of all these clips at which the most of what is seen and heard lies together, if that is no chance.

    Clips of one source (a camera, a film) have the same offset, and are too short to show it one by one.
    """
    seen, heard = sum(len(clip.seen) for clip in clips), sum(len(clip.heard) for clip in clips)
    lags = np.sort(np.concatenate([np.empty(0), *(clip.lags() for clip in clips)]))
    if not len(lags):
        return Offset(None, 0.0, seen, heard, 0)
    slack, reach = max(clip.slack for clip in clips), max(clip.reach for clip in clips)
    tried = lags if len(lags) <= MOST_LAGS else np.arange(-reach, reach, slack / 3)
    pairs = np.array([sum(clip.pairs(lag) for clip in clips) for lag in tried])
    crowd = np.searchsorted(lags, tried + slack) - np.searchsorted(lags, tried - slack)
    best = int(max(np.flatnonzero(pairs == pairs.max()), key=lambda i: (crowd[i], -i)))
    count = int(pairs[best])
    near = lags[np.abs(lags - tried[best]) <= slack]
    lag = float(np.median(near)) if len(near) else float(tried[best])
    rival = int(pairs[np.abs(tried - lag) > 3 * slack].max(initial=0))
    confidence = 1 - _chance(clips, count, slack, reach)
    rarer = sum(min(len(clip.seen), len(clip.heard)) for clip in clips)
    known = count >= FEWEST and confidence >= CONFIDENT and rival <= RIVAL * count and count >= CLUSTERED * rarer
    return Offset(lag if known else None, confidence if known else 0.0, seen, heard, count)


def _chance(clips: Sequence[Beginnings], pairs: int, slack: float, reach: float) -> float:
    """Upper bound of the probability that unrelated events agree so often at any of the lags tried."""
    expected = sum(len(clip.seen) * len(clip.heard) * 2 * clip.slack / clip.seconds for clip in clips)
    fewer = sum(math.exp(-expected + k * math.log(expected) - math.lgamma(k + 1)) for k in range(pairs))
    return min(1.0, max(0.0, 1 - fewer) * reach / slack)
