"""Where a run's numbers go: always `metrics.csv` (step, seconds, name, value), and TensorBoard when asked for."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phonofilm.errors import MissingExtraError

HEADER = ("step", "seconds", "name", "value")
SumAndCount = tuple[float, float]
Report = Callable[[], Mapping[str, SumAndCount]]


class Meter:
    """Means over the updates since the last look. Reports are evaluated only then, so that no update waits for a device."""

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def add(self, report: Report) -> None:
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

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.csv"
        kept = [row for row in read_metrics(folder) if row[0] <= step] if step else []
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *kept])
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingExtraError("tensorboard", "train") from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows((step, f"{seconds:.2f}", name, f"{value:.6g}") for name, value in values.items())
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read_metrics(folder: Path) -> list[tuple[int, float, str, float]]:
    """All rows of a run's `metrics.csv`, as (step, seconds, name, value); none when there is no such file."""
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(int(row[0]), float(row[1]), row[2], float(row[3])) for row in rows if len(row) == len(HEADER)]
