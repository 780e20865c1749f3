"""How many workers a cluster should have: between two numbers, by the length of the queue. Knows no Ray."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from phonofilm.errors import InputError

# Loading a model takes minutes: a worker without work waits this long for some before its place is given back.
IDLE_SECONDS = 120.0
MOST_REPLICAS = 1024


@dataclass(frozen=True)
class ReplicaRange:
    """At least and at most so many workers."""

    least: int
    most: int


@dataclass
class Scaling:
    """Turns the number of jobs that wait or run into a number of workers; up at once, down after `idle` seconds."""

    range: ReplicaRange
    idle: float = IDLE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _wanted: int = field(init=False)
    _busy_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._wanted, self._busy_at = self.range.least, self.clock()

    def wanted(self, jobs: int) -> int:
        """How many workers there should be now. A worker makes one job at a time."""
        needed = min(self.range.most, max(self.range.least, jobs))
        now = self.clock()
        if needed >= self._wanted or now - self._busy_at >= self.idle:
            self._wanted, self._busy_at = needed, now
        return self._wanted


def parse_replicas(text: str) -> ReplicaRange:
    """ "2" or "1:8" -> at least and at most. Raises InputError."""
    match = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", text.strip(), re.ASCII)
    if match is not None:
        least, most = int(match[1]), int(match[2] or match[1])
        if least <= most <= MOST_REPLICAS and most >= 1:
            return ReplicaRange(least, most)
    raise InputError(f"--replicas {text!r:.40} is no number of workers; use N or MIN:MAX, for example 2 or 1:8")
