"""How fast the steps of a clip are, in words."""

from __future__ import annotations

import time

from phonofilm.units import format_duration


class Pace:
    """The time a step takes and the time that is left; the first step, which warms up, counts least."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = self._second = time.monotonic()

    def after(self, done: int) -> str:
        now = time.monotonic()
        if done == 1:
            self._second = now
        each = (now - self._second) / (done - 1) if done > 1 else now - self._start
        left = "" if done == self._total else f", {format_duration(each * (self._total - done))} left"
        return f"{each:.2f} s/step{left}"
