"""Which of a clip's frames are shown when its frame rate is changed: ffmpeg's two ways. Indices only, no pictures."""

from __future__ import annotations

import math
from fractions import Fraction


def frames_of_filter(frames: int, rate: Fraction, target: Fraction, wanted: int) -> list[int]:
    """The source frame of each of the first `wanted` frames, as ffmpeg's filter fps chooses: the last one that has begun.

    A frame begins at the target's frame nearest to its time. Fewer than `wanted` where the clip ends before.
    """
    begins = [_half_up(index * target / rate) for index in range(frames)]
    end = _half_up(frames * target / rate)
    shown: list[int] = []
    source = 0
    for time in range(min(wanted, end)):
        while source + 1 < frames and begins[source + 1] <= time:
            source += 1
        shown.append(source)
    return shown


def frames_of_encoder(frames: int, rate: Fraction, target: Fraction) -> list[int]:
    """The source frame of every frame that ffmpeg writes with -r (constant frame rate): it repeats or drops at the source.

    After video_sync_process of ffmpeg 5: a frame is repeated when more than half a frame is missing, dropped when it comes
    more than 1.1 frames early.
    """
    shown: list[int] = []
    length = float(target / rate)
    for index in range(frames):
        early = float(index * target / rate) - len(shown)
        missing = early + length
        if early < 0 < missing:
            missing, early = length + early, 0.0
        if missing < -1.1:
            continue
        repeats = round(missing) if missing > 1.1 else 1
        shown += [index] * (repeats if missing > 0 or repeats > 1 else 0)
    return shown


def _half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))
