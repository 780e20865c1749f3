"""How far a training is, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import typer

from phonofilm.cli.terminal import console, table
from phonofilm.notices import LogLines
from phonofilm.training.loop.training_state import TrainingProgress
from phonofilm.untrusted import printable

if TYPE_CHECKING:
    from phonofilm.training.dry_run.estimate import Estimate
    from phonofilm.training.task.adapters import AdaptedPart


class TrainingReport(AbstractContextManager["TrainingReport"], Protocol):
    """Entered before the training and left however it ends; called after every update."""

    def __call__(self, now: TrainingProgress) -> None: ...


def report_training(terminal: bool | None = None) -> TrainingReport:
    """A bar when standard error is a terminal, else lines."""
    return TrainingBar() if (sys.stderr.isatty() if terminal is None else terminal) else TrainingLines()


class TrainingLines:
    """One line whenever the losses are new."""

    def __init__(self) -> None:
        self._handler = LogLines(self._say)

    def __enter__(self) -> TrainingLines:
        self._handler.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self._handler.detach()

    def __call__(self, now: TrainingProgress) -> None:
        if now.fresh:
            of = f"/{now.total}" if now.total else ""
            self._say(f"step {now.step}{of}  {now.summary}")

    def _say(self, text: str) -> None:
        typer.echo(printable(text), err=True)


class TrainingBar:
    """One bar over the run, with warnings above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("train"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[about]}"),
        )
        self._bars = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), redirect_stdout=False)
        self._task = self._bars.add_task("train", total=None, about="")
        self._handler = LogLines(self._say)

    def __enter__(self) -> TrainingBar:
        self._handler.attach()
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
        self._handler.detach()

    def __call__(self, now: TrainingProgress) -> None:
        total = now.total or (round(now.step / now.done) if now.done else None)
        self._bars.update(self._task, completed=now.step, total=total, about=now.summary)

    def _say(self, text: str) -> None:
        from rich.markup import escape

        self._bars.console.print(escape(printable(text)), highlight=False, soft_wrap=True)


class TrainingTerminal:
    """A training's screen: what is adapted as a table, and the rest on standard error."""

    def preparing(self) -> TrainingLines:
        return TrainingLines()

    def training(self) -> TrainingReport:
        return report_training()

    def show_adapted(self, parts: tuple[AdaptedPart, ...]) -> None:
        from phonofilm.training.task.adapters import ADAPTED_COLUMNS

        console().print(table(ADAPTED_COLUMNS, [part.row for part in parts]))

    def show_estimate(self, estimate: Estimate) -> None:
        console(error=True).print(table(("measured dry run", ""), estimate.lines()))
