"""What a run tells its user while it works: bars on a terminal, plain lines elsewhere. Knows nothing of pipelines."""

from __future__ import annotations

import sys
from typing import Protocol

import typer

from phonofilm.cli.wording import in_flags
from phonofilm.generation.pace import Pace
from phonofilm.generation.report import Event, Loading, Message, OnProgress, SamplingStarted, StageStarted, StepDone
from phonofilm.notices import LogLines
from phonofilm.units import format_size
from phonofilm.untrusted import printable


class Display(Protocol):
    """What shows the progress of a run. Entered before its first event, and left however the run ends."""

    def __enter__(self) -> OnProgress: ...
    def __exit__(self, *error: object) -> None: ...


def open_display(stream_is_terminal: bool | None = None) -> Display:
    """Bars when standard error is a terminal, else lines."""
    terminal = sys.stderr.isatty() if stream_is_terminal is None else stream_is_terminal
    if terminal:
        from phonofilm.cli.bars import Bars

        return Bars()
    return Lines()


class Lines:
    """Plain lines on standard error, a few per run, without control characters: for logs and pipes."""

    def __init__(self) -> None:
        self._pace = Pace(0)
        self._handler = LogLines(self.say)

    def __enter__(self) -> OnProgress:
        self._handler.attach()
        return self.show

    def __exit__(self, *error: object) -> None:
        self._handler.detach()

    def say(self, text: str) -> None:
        typer.echo(printable(text), err=True)

    def show(self, event: Event) -> None:
        match event:
            case Message(text):
                self.say(in_flags(text))
            case StageStarted(name):
                self.say(name)
            case Loading(component, done, total):
                if done == total:
                    self.say(f"loaded {component} ({format_size(total)})")
            case SamplingStarted(experts):
                self._pace = Pace(len(experts))
            case StepDone(done, total, expert):
                pace = self._pace.after(done)
                if done in (1, total) or done % max(1, total // 10) == 0:
                    self.say(f"step {done}/{total} ({expert}-noise expert): {pace}")
