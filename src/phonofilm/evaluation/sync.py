"""How far what is heard is from what is seen: lags between two lists of event times, pooled over clips. No frames, no sound.

A positive lag means: the sound is late. Times and lags are seconds here, milliseconds in the summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MATCH_REACH = 0.25  # seconds: a sound farther from an event than this is not its sound
SHIFTS = 4  # how many other clips lend their sound to each picture in the shuffled baseline
RESAMPLES = 400


@dataclass(frozen=True)
class Matching:
    """One clip's visible events and audible onsets, paired. lags: one per pair, sound minus picture, seconds."""

    events: int
    onsets: int
    lags: tuple[float, ...]

    @property
    def misses(self) -> int:
        """Events without a sound."""
        return self.events - len(self.lags)

    @property
    def extras(self) -> int:
        """Sounds without an event."""
        return self.onsets - len(self.lags)


@dataclass(frozen=True)
class LagSummary:
    """Pooled over clips. Shares are of all visible events; NaN where there is none.

    within: share of events with a sound within one frame either side, and its 95 % interval (bootstrap over clips).
    median_ms, p90_ms: of |lag| over the pairs. offset_ms: the median lag, with its sign.
    misses: share of events without a sound within reach. extras: sounds without an event, per event.
    """

    clips: int
    events: int
    within: float
    within_low: float
    within_high: float
    median_ms: float
    p90_ms: float
    offset_ms: float
    misses: float
    extras: float


def match(events: Sequence[float], onsets: Sequence[float], reach: float = MATCH_REACH) -> Matching:
    """Pair each event with at most one onset and the other way round, nearest pairs first, none farther than `reach`."""
    seen, heard = np.asarray(events, float), np.asarray(onsets, float)
    lag = heard[None, :] - seen[:, None]
    order = np.argsort(np.abs(lag), axis=None, kind="stable")
    free_events, free_onsets = set(range(len(seen))), set(range(len(heard)))
    lags = []
    for event, onset in zip(*np.unravel_index(order, lag.shape), strict=True):
        if abs(lag[event, onset]) > reach:
            break
        if event in free_events and onset in free_onsets:
            free_events.discard(event)
            free_onsets.discard(onset)
            lags.append(float(lag[event, onset]))
    return Matching(len(seen), len(heard), tuple(lags))


def summarise(matchings: Sequence[Matching], frame_seconds: float) -> LagSummary:
    """Pool the clips' matchings. `frame_seconds`: how long a frame is shown."""
    events = np.array([m.events for m in matchings])
    near = np.array([sum(abs(lag) <= frame_seconds for lag in m.lags) for m in matchings])
    lags = np.array([lag for m in matchings for lag in m.lags])
    total = int(events.sum())
    low, high = _interval(near, events)
    median, p90, offset = (
        (np.median(np.abs(lags)), np.quantile(np.abs(lags), 0.9), np.median(lags)) if len(lags) else [np.nan] * 3
    )
    return LagSummary(
        clips=len(matchings),
        events=total,
        within=_share(near.sum(), total),
        within_low=low,
        within_high=high,
        median_ms=float(median) * 1000,
        p90_ms=float(p90) * 1000,
        offset_ms=float(offset) * 1000,
        misses=_share(sum(m.misses for m in matchings), total),
        extras=_share(sum(m.extras for m in matchings), total),
    )


def shuffled_pairs(groups: Sequence[str], shifts: int = SHIFTS) -> list[tuple[int, int]]:
    """(picture, sound) pairs of different clips of the same group, for the baseline: each picture with up to `shifts`.

    A group of one clip has no pairs.
    """
    pairs = []
    for group in dict.fromkeys(groups):
        members = [i for i, g in enumerate(groups) if g == group]
        for shift in range(1, min(shifts, len(members) - 1) + 1):
            pairs += [(member, members[(at + shift) % len(members)]) for at, member in enumerate(members)]
    return pairs


def _interval(near: np.ndarray, events: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the share over clips drawn again and again, with replacement."""
    if not events.sum():
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(events), size=(RESAMPLES, len(events)))
    shares = near[drawn].sum(1) / np.maximum(events[drawn].sum(1), 1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def _share(part: float, whole: float) -> float:
    return float(part) / whole if whole else float("nan")
