"""What a run reports while it works. Knows no screen: the command line turns reports into bars and lines."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Where a run reports to. Entered before the first report, and left however the run ends."""

    def __enter__(self) -> Report: ...
    def __exit__(self, *error: object) -> None: ...
    def say(self, text: str) -> None:
        """A line that stays."""

    def loading(self, component: str, done: int, total: int) -> None:
        """Bytes of a component's weights that have arrived."""

    def start_steps(self, experts: tuple[str, ...]) -> None:
        """Sampling begins; the expert ("high" or "low") of every step."""

    def step(self, done: int) -> None:
        """So many steps are done."""

    def stage(self, name: str) -> None:
        """Something of unknown length begins: decoding, writing. It ends what was shown before."""


class SilentReport:
    """The report of a rank that another one speaks for."""

    def __enter__(self) -> SilentReport:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing was shown."""

    def say(self, text: str) -> None:
        """Said by the first rank."""

    def loading(self, component: str, done: int, total: int) -> None:
        """Shown by the first rank."""

    def start_steps(self, experts: tuple[str, ...]) -> None:
        """Shown by the first rank."""

    def step(self, done: int) -> None:
        """Shown by the first rank."""

    def stage(self, name: str) -> None:
        """Shown by the first rank."""
