"""Tables and plots that reports are made of. Knows nothing of what is measured; matplotlib is imported on first use."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import InputError, MissingExtraError

INK, FAINT, COLOURS = "#20242c", "#8a93a3", ("#2f6fde", "#e07b39", "#2f9e6b", "#b0489d", "#7a6ff0", "#c9a227")
POINTS = 200  # of a smoothed curve
CLOCKS = ("step", "seconds", "progress")


@dataclass(frozen=True)
class Bar:
    """One bar: its height, and the ends of its interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up when read as plain text too: the first to the left, the others to the right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * w) if i == 0 else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *[line(row) for row in rows]])


def plot_bars(
    path: Path, groups: Mapping[str, Mapping[str, Bar]], title: str, limits: Mapping[str, float] | None = None
) -> None:
    """Horizontal bars in 0..1, a panel per group, all with bars of the same names. `limits`: a group's goal, drawn dashed.

    A value of NaN, which does not exist, leaves its line empty.
    """
    figure, axes = _figure(len(groups), width=2.6, height=0.32 * max(len(g) for g in groups.values()) + 1.3)
    for number, (axis, (group, bars)) in enumerate(zip(axes, groups.items(), strict=True)):
        values, low, high = np.nan_to_num(
            [
                (b.value, b.value if b.low is None else b.low, b.value if b.high is None else b.high)
                for b in bars.values()
            ]
        ).T
        errors = np.maximum([values - low, high - values], 0)
        colour = COLOURS[number % len(COLOURS)]
        axis.barh(range(len(bars)), values, color=colour, xerr=errors, ecolor=INK, error_kw={"elinewidth": 0.9})
        axis.set_yticks(range(len(bars)), list(bars) if number == 0 else [""] * len(bars))
        axis.set_xlim(0, 1)
        axis.set_ylim(len(bars) - 0.5, -0.5)
        axis.set_title(group, fontsize=10)
        if limits and group in limits:
            axis.axvline(limits[group], color=FAINT, linestyle="--", linewidth=1)
    _save(figure, title, path)


def plot_boxes(path: Path, values: Mapping[str, Sequence[float]], title: str, label: str, band: float) -> None:
    """A horizontal box per name (median, quartiles, 5th to 95th percentile), with a shaded band around zero."""
    figure, (axis,) = _figure(1, width=7.5, height=0.34 * len(values) + 1.3)
    axis.axvspan(-band, band, color="#e7eefb")
    axis.axvline(0, color=FAINT, linewidth=0.8)
    axis.boxplot(
        [list(v) for v in values.values()],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        tick_labels=list(values),
        medianprops={"color": COLOURS[1], "linewidth": 2},
    )
    axis.invert_yaxis()
    axis.set_xlabel(label)
    _save(figure, title, path)


def plot_curves(
    logs: Mapping[str, Path],
    path: Path,
    *,
    names: Sequence[str] | None = None,
    clock: str = "step",
    title: str = "",
    columns: int = 3,
) -> None:
    """Learning curves out of CSV logs, a panel per quantity and a line per log.

    Reads both forms: one row per value (step, seconds, name, value), and one column per quantity beside step or seconds.
    `names`: the quantities, in order; all by default. `clock`: the x axis, step or seconds. Long curves are averaged down
    to 200 points, and losses get a logarithmic axis. Raises InputError when a quantity is in none of the logs.
    """
    curves = {label: read_curves(file, clock) for label, file in logs.items()}
    found = list(dict.fromkeys(name for log in curves.values() for name in log))
    chosen = list(names) if names is not None else found
    if missing := [name for name in chosen if name not in found]:
        raise InputError(f"no curve is named {missing[0]!r}; the logs have {', '.join(found) or 'none'}")
    rows = -(-len(chosen) // columns)
    figure, axes = _figure(rows * min(columns, len(chosen)), width=3.4, height=2.5, rows=rows)
    for axis, name in zip(axes, chosen, strict=False):
        drawn = [(label, log[name]) for label, log in curves.items() if name in log]
        for number, (label, (x, y)) in enumerate(drawn):
            axis.plot(*_thinned(x, y), color=COLOURS[number % len(COLOURS)], label=label, linewidth=1.4)
        if "loss" in name and all((y > 0).all() for _, (_, y) in drawn):
            axis.set_yscale("log")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(clock, fontsize=8)
        if len(curves) > 1:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    _save(figure, title, path)


def read_curves(file: Path, clock: str = "step") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(x, y) by quantity, from either form of log. Cells that are no numbers are left out."""
    if not file.is_file():
        raise InputError(f"{file} is not a file; give a CSV log that a training wrote")
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if clock not in (reader.fieldnames or ()):
            raise InputError(f"{file} has no column {clock!r}; it has {', '.join(reader.fieldnames or ())}")
        for row in reader:
            cells = {row["name"]: row["value"]} if row.keys() >= {"name", "value"} else dict(row)
            for name, text in cells.items():
                if name not in CLOCKS and _is_number(text):
                    points[name].append((float(row[clock]), float(text)))
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in points.items()}


def _is_number(text: str | None) -> bool:
    try:
        return bool(np.isfinite(float(text or "nan")))
    except ValueError:
        return False


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def _figure(panels: int, width: float, height: float, rows: int = 1) -> tuple[Any, list[Any]]:
    """A figure without a window or global state, and its panels row by row; width and height of one, in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    figure = Figure(figsize=(width * (panels // rows) + 2.0, height * rows), dpi=110, layout="constrained")
    axes = list(np.asarray(figure.subplots(rows, panels // rows, squeeze=False)).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(which="both", labelsize=8)
    return figure, axes


def _save(figure: Any, title: str, path: Path) -> None:
    if title:
        figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
