"""Where a run's numbers go: always `metrics.csv` (step, seconds, name, value), and the boards that are given."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from phonofilm.files import replacing
from phonofilm.media.clip import Clip
from phonofilm.training.loop.boards import Board

METRICS_HEADER = ("step", "seconds", "name", "value")
SumAndCount = tuple[float, float]
LossReport = Callable[[], Mapping[str, SumAndCount]]
# What a hook returns: numbers, and clips to look at and listen to.
HookResult = Mapping[str, float | Clip]


def merged(reports: Sequence[LossReport], numbers: Mapping[str, float]) -> dict[str, SumAndCount]:
    """The reports of an update's micro-steps as one, with further `numbers` of the update."""
    values = {name: (value, 1.0) for name, value in numbers.items()}
    for report in reports:
        for name, (total, count) in report().items():
            before = values.get(name, (0.0, 0.0))
            values[name] = (before[0] + total, before[1] + count)
    return values


class Meter:
    """Means over the updates since the last look. Reports are evaluated only then, so that no update waits for a device."""

    def __init__(self) -> None:
        self._reports: list[LossReport] = []

    def add(self, report: LossReport) -> None:
        self._reports.append(report)

    def take(self) -> dict[str, float]:
        """The mean of every quantity that was counted at least once, by name; then start anew."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for report in self._reports:
            for name, (total, count) in report().items():
                sums[name][0] += total
                sums[name][1] += count
        self._reports = []
        return {name: total / count for name, (total, count) in sorted(sums.items()) if count > 0}


class MetricsLog:
    """Appends to a run's curves. Rows past `step`, of a run that went on after its last checkpoint, are dropped first."""

    def __init__(self, folder: Path, step: int, boards: Sequence[Board] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.csv"
        self._boards = boards
        kept = [row for row in read_metrics(folder) if row[0] <= step] if step else []
        with replacing(self._path) as fresh, fresh.open("w", newline="") as file:
            csv.writer(file).writerows([METRICS_HEADER, *kept])

    def write(self, step: int, seconds: float, result: HookResult) -> None:
        """Numbers go everywhere, clips to the boards."""
        numbers = {name: value for name, value in result.items() if not isinstance(value, Clip)}
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows(
                (step, f"{seconds:.2f}", name, as_written(value)) for name, value in numbers.items()
            )
        for board in self._boards:
            board.numbers(step, numbers)
            for name, value in result.items():
                if isinstance(value, Clip):
                    board.clip(step, name, value)

    def close(self) -> None:
        for board in self._boards:
            board.close()


def as_written(value: float) -> str:
    """A value as `metrics.csv` keeps it: six digits."""
    return f"{value:.6g}"


def read_metrics(folder: Path) -> list[tuple[int, float, str, float]]:
    """All rows of a run's `metrics.csv`, as (step, seconds, name, value); none when there is no such file.

    A row that is damaged, as the last one of a full disk may be, is passed over.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(METRICS_HEADER)][1:]
    return [read for row in rows if (read := _read_row(row)) is not None]


def _read_row(row: list[str]) -> tuple[int, float, str, float] | None:
    try:
        return int(row[0]), float(row[1]), row[2], float(row[3])
    except ValueError:
        return None
