"""What a run tells its user while it works: bars on a terminal, plain lines elsewhere. Knows nothing of pipelines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import typer

from phonofilm.generation.report import Report
from phonofilm.units import format_duration, format_size


def report_to(stream_is_terminal: bool | None = None) -> Report:
    """Bars when standard error is a terminal, else lines."""
    terminal = sys.stderr.isatty() if stream_is_terminal is None else stream_is_terminal
    if terminal:
        from phonofilm.cli.bars import Bars

        return Bars()
    return Lines()


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


class Lines:
    """Plain lines on standard error, a few per run, without control characters: for logs and pipes."""

    def __init__(self) -> None:
        self._experts: tuple[str, ...] = ()
        self._pace = Pace(0)
        self._handler = LogLines(self.say)

    def __enter__(self) -> Lines:
        self._handler.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self._handler.detach()

    def say(self, text: str) -> None:
        typer.echo(text, err=True)

    def loading(self, component: str, done: int, total: int) -> None:
        if done == total:
            self.say(f"loaded {component} ({format_size(total)})")

    def start_steps(self, experts: tuple[str, ...]) -> None:
        self._experts, self._pace = experts, Pace(len(experts))

    def step(self, done: int) -> None:
        total, pace = len(self._experts), self._pace.after(done)
        if done in (1, total) or done % max(1, total // 10) == 0:
            self.say(f"step {done}/{total} ({self._experts[done - 1]}-noise expert): {pace}")

    def stage(self, name: str) -> None:
        self.say(name)


class LogLines(logging.Handler):
    """The library's warnings as lines of the report that is showing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def attach(self) -> None:
        logging.getLogger("phonofilm").addHandler(self)

    def detach(self) -> None:
        logging.getLogger("phonofilm").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"{record.levelname.lower()}: {record.getMessage()}")
