"""Distinguishes cuts from flashes: a flash returns to the scene before it, a cut does not. Works on small grey pictures.

A detector that compares neighbouring frames takes a flash for two cuts, and overlooks a cut that lies among many flashes.
What is usual in half a second sees through both, as long as it is dark for more than half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.cuts import ALIKE_PICTURES, CHANGED, likeness

RETURNS = 0.3  # of a change: what is left of it once a flash is over; motion in a scene leaves that much too
TOGETHER = 0.25  # seconds; two cuts this near are one
LOOKED_AT = 0.5  # seconds either side
NEARBY = 1.0  # seconds


@dataclass(frozen=True)
class SceneCuts:
    """Numbers of the frames that begin a scene, and how many sudden changes were passed over as flashes."""

    starts: tuple[int, ...]
    flashes: int


def without_flashes(frames: NDArray[np.uint8], proposed: Sequence[int], frame_rate: float) -> SceneCuts:
    """Of the proposed cuts those that are no flashes, and the cuts that lie among flashes, for thumbnails [f, h, w]."""
    change = _changes(frames)
    sudden = np.flatnonzero(change > CHANGED)
    around = max(2, round(LOOKED_AT * frame_rate))
    kept = _cuts_among_flashes(frames, sudden, around, round(NEARBY * frame_rate))
    hidden = tuple(kept)
    for first in proposed:
        begin = max([0, first - around, *(cut for cut in hidden if cut < first)])
        end = min([len(frames), first + around, *(cut for cut in hidden if cut > first)])
        lasts = _least_difference(frames[begin:first], frames[first:end]) >= RETURNS * change[first]
        if lasts and _are_apart(first, kept, max(1, round(TOGETHER * frame_rate))):
            kept.append(first)
    flashed = len(proposed) != len(kept) or set(proposed) != set(kept)
    flashes = sum(_are_apart(int(first), kept, 1) for first in sudden) if flashed else 0
    return SceneCuts(tuple(sorted(kept)), flashes)


def _cuts_among_flashes(frames: NDArray[np.uint8], sudden: NDArray[np.intp], around: int, nearby: int) -> list[int]:
    """Frames that begin a scene unlike the one before, with other sudden changes nearby that hide them from a detector."""
    found: list[tuple[int, int]] = []
    for first in sudden.tolist():
        before, after = frames[max(0, first - around) : first], frames[first : first + around]
        hidden = np.count_nonzero(np.abs(sudden - first) <= nearby) > 2
        if hidden and min(len(before), len(after)) >= around // 2 and _are_unlike(before, after):
            found.append((_misfits(before) + _misfits(after), first))
    cuts: list[int] = []
    for _, first in sorted(found):  # of candidates that part the same two scenes, the one that parts them best
        if _are_apart(first, cuts, around):
            cuts.append(first)
    return cuts


def _are_unlike(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Whether no usual frame of one side is like a usual one of the other."""
    return all(
        np.abs(a - b).mean() > CHANGED and likeness(a, b) < ALIKE_PICTURES
        for a in _usual(before)
        for b in _usual(after)
    )


def _least_difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Between a usual frame of one side and one of the other, in grey levels."""
    return min(float(np.abs(a - b).mean()) for a in _usual(before) for b in _usual(after))


def _usual(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The half of the frames that is nearest to their median: no flashes, as long as it is dark for longer."""
    away = np.abs(frames - np.median(frames, axis=0)).mean((1, 2))
    nearest = np.argsort(away, kind="stable")[: (len(frames) + 1) // 2]
    return frames[np.sort(nearest)].astype(np.float32)


def _misfits(frames: NDArray[np.uint8]) -> int:
    """How many frames are unlike the usual ones."""
    usual = _usual(frames)
    return sum(min(np.abs(frame - other).mean() for other in usual) > CHANGED for frame in frames)


def _changes(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[f] mean difference of each frame from the one before, in grey levels; 0 for the first."""
    steps = (np.abs(after.astype(np.float32) - before).mean() for before, after in pairwise(frames))
    return np.array([0.0, *steps])


def _are_apart(first: int, others: Sequence[int], least: int) -> bool:
    return all(abs(first - other) >= least for other in others)
