"""The report on a terminal: one rich progress display with a bar for loading, one for the steps, one for what follows."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from phonofilm.cli.wording import in_flags
from phonofilm.generation.pace import Pace
from phonofilm.generation.report import Event, Loading, Message, OnProgress, SamplingStarted, StageStarted, StepDone
from phonofilm.notices import LogLines
from phonofilm.units import format_size
from phonofilm.untrusted import printable


class Bars:
    """Each part of a run has its own line, which stays when the part is over, until the next clip is begun."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[about]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True) if console is None else console,
            redirect_stdout=False,
        )
        self._loading: dict[str, TaskID] = {}
        self._current: TaskID | None = None
        self._parts: list[TaskID] = []
        self._experts: tuple[str, ...] = ()
        self._pace = Pace(0)
        self._handler = LogLines(self.say)

    def __enter__(self) -> OnProgress:
        self._handler.attach()
        self._progress.start()
        return self.show

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._finish()
        self._progress.stop()
        self._handler.detach()

    def say(self, text: str) -> None:
        self._progress.console.print(escape(printable(text)), highlight=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        match event:
            case Message(text):
                self.say(in_flags(text))
            case Loading(component, done, total):
                self._show_loading(component, done, total)
            case SamplingStarted(experts):
                self._start_steps(experts)
            case StepDone(done):
                self._show_step(done)
            case StageStarted(name):
                self._begin(name, total=None, about="")

    def _show_loading(self, component: str, done: int, total: int) -> None:
        if component not in self._loading:
            self._loading[component] = self._progress.add_task(f"load {component}", total=total, about="")
        self._progress.update(
            self._loading[component], completed=done, about=f"{format_size(done)} of {format_size(total)}"
        )

    def _start_steps(self, experts: tuple[str, ...]) -> None:
        for part in self._parts:
            self._progress.remove_task(part)
        self._parts, self._current = [], None
        self._experts, self._pace = experts, Pace(len(experts))
        self._begin("sample", total=len(experts), about=self._next_expert(0))

    def _show_step(self, done: int) -> None:
        assert self._current is not None
        about = f"{self._next_expert(done)}{self._pace.after(done)}"
        self._progress.update(self._current, completed=done, about=f"{done}/{len(self._experts)} {about}")

    def _next_expert(self, done: int) -> str:
        return "" if done >= len(self._experts) else f"{self._experts[done]}-noise expert "

    def _begin(self, name: str, total: int | None, about: str) -> None:
        self._finish()
        self._current = self._progress.add_task(escape(printable(name)), total=total, about=about)
        self._parts.append(self._current)

    def _finish(self) -> None:
        """Marks the part that was running as done."""
        if self._current is not None:
            total = len(self._experts) if self._current == self._parts[0] else 1
            self._progress.update(self._current, total=total, completed=total)
        self._current = None
