"""Which stretch of each clip is learnt, and at which size and length. Times and shapes only; pixels: window_reading.py.

A bucket is a size x a number of frames; a batch holds one bucket's windows. All choices are pure functions of the plan's
seed and the clip's name, so that the same plan always means the same windows.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from phonofilm.data.manifest import Item
from phonofilm.data.probe import Facts
from phonofilm.errors import InputError
from phonofilm.untrusted import shown

Mode = Literal["head", "random", "several"]
MODES: tuple[Mode, ...] = ("head", "random", "several")


@dataclass(frozen=True, order=True)
class Bucket:
    """height, width in pixels; frames = 1 + 4k at the plan's frame rate."""

    height: int
    width: int
    frames: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.frames}"


@dataclass(frozen=True)
class WindowPlan:
    """How windows are cut.

    mode: "head" takes the clip's beginning, "random" `count` windows anywhere, "several" up to `count` windows spread
    evenly, which do not overlap. buckets: a clip takes the longest that it fills, among those the one nearest to its
    shape. sizes are checked against the model's geometry by whoever knows the model.
    """

    buckets: tuple[Bucket, ...]
    frame_rate: Fraction = Fraction(24)
    mode: Mode = "head"
    count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.buckets:
            raise InputError("no bucket was given; give for example 352x640x193 (height x width x frames)")
        for bucket in self.buckets:
            if bucket.frames < 1 or (bucket.frames - 1) % 4:
                raise InputError(f"bucket {bucket}: {bucket.frames} frames is not 1 + a multiple of 4")
        if self.count < 1:
            raise InputError(f"{self.count} windows per clip were asked for; ask for 1 or more")
        if self.mode == "head" and self.count != 1:
            raise InputError(f"a clip has one head, but {self.count} windows were asked for; use several or random")


@dataclass(frozen=True)
class ClipWindow:
    """One window of one clip: `start` in seconds after the clip's first frame, on a frame of the file."""

    item: Item
    start: Fraction
    bucket: Bucket
    frame_rate: Fraction
    has_audio: bool

    @property
    def seconds(self) -> Fraction:
        return self.bucket.frames / self.frame_rate

    @property
    def name(self) -> str:
        return f"{self.item.file.name}@{float(self.start):.3f}"


def parse_bucket(text: str) -> Bucket:
    """ "352x640x193" -> Bucket: height x width x frames. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})x(\d{1,9})", text.strip().lower(), re.ASCII)
    if match is None:
        raise InputError(f"bucket {shown(repr(text))} is not height x width x frames; write for example 352x640x193")
    return Bucket(*map(int, match.groups()))


def parse_mode(text: str) -> Mode:
    """The mode of that name. Raises InputError for any other."""
    for mode in MODES:
        if mode == text:
            return mode
    raise InputError(f"windows {text!r} is unknown; use one of {', '.join(MODES)}")


def windows_of(item: Item, facts: Facts, plan: WindowPlan) -> tuple[ClipWindow, ...]:
    """The windows of one clip, in order. Raises InputError for one that is too short for every bucket."""
    first, last = stretch(item, facts)
    bucket = choose_bucket(last - first, facts, plan)
    if bucket is None:
        shortest = min(b.frames for b in plan.buckets)
        raise InputError(
            f"{item.origin or item.file}: {float(last - first):.2f} s is too short for a window of {shortest} frames at "
            f"{float(plan.frame_rate):g} per second ({float(shortest / plan.frame_rate):.2f} s); use fewer frames"
        )
    has_audio = facts.has_sound or item.audio is not None
    return tuple(
        ClipWindow(item, _on_a_frame(start, facts.rate), bucket, plan.frame_rate, has_audio)
        for start in _starts(item, first, last, bucket.frames / plan.frame_rate, plan)
    )


def stretch(item: Item, facts: Facts) -> tuple[Fraction, Fraction]:
    """(first, last) second of the clip that the manifest allows, within the picture."""
    return item.start or Fraction(0), facts.seconds if item.end is None else min(item.end, facts.seconds)


def choose_bucket(seconds: Fraction, facts: Facts, plan: WindowPlan) -> Bucket | None:
    """The most frames that fit into `seconds` (half a frame may lack: it is held), then the nearest aspect ratio."""
    available = seconds * plan.frame_rate + Fraction(1, 2)
    fitting = [bucket for bucket in plan.buckets if bucket.frames <= available]
    if not fitting:
        return None
    longest = max(bucket.frames for bucket in fitting)
    aspect = math.log(facts.width / facts.height)
    return min(
        (bucket for bucket in fitting if bucket.frames == longest),
        key=lambda b: (round(abs(math.log(b.width / b.height) - aspect), 6), -b.height * b.width),
    )


def _starts(item: Item, first: Fraction, last: Fraction, length: Fraction, plan: WindowPlan) -> Sequence[Fraction]:
    room = max(Fraction(0), last - first - length)
    if plan.mode == "head":
        return [first]
    if plan.mode == "random":
        draw = random.Random(hashlib.sha256(f"{plan.seed}:{item.name}".encode()).digest())
        return sorted(first + room * Fraction(draw.random()).limit_denominator(10**6) for _ in range(plan.count))
    count = min(plan.count, max(1, math.floor((room + length) / length)))
    return [first + (room * i / (count - 1) if count > 1 else 0) for i in range(count)]


def _on_a_frame(start: Fraction, rate: Fraction) -> Fraction:
    """The frame of the file at or before `start`, so that the window never runs over the stretch's end."""
    return math.floor(start * rate + Fraction(1, 1000)) / rate
