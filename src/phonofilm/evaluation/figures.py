"""From rows to a set's figures: means over what is ok, how many that were, and a bootstrap interval. Knows no metric."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.rows import STATES, Row

RESAMPLES = 1000
TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class SetFigure:
    """A figure of a set of clips. ci95: the middle 95 % over clips drawn with replacement. ok: how many clips it is of; an ok
    row may lack some of its metric's figures.

    The interval is None for fewer than two clips, and where one of the categories that are averaged has a single clip: drawn
    again and again it is always the same, and says nothing of how clips differ.
    """

    value: float
    ci95: tuple[float, float] | None
    ok: int


@dataclass(frozen=True)
class MetricSummary:
    """A metric over a set: figures by name, empty where no row is ok; the same per category; how many rows of each state.

    reasons: why rows are not ok, the most frequent first.
    """

    figures: Mapping[str, SetFigure]
    per_category: Mapping[str, Mapping[str, float]]
    per_category_ok: Mapping[str, int]
    states: Mapping[str, int]
    reasons: tuple[tuple[str, int], ...]

    @property
    def ok(self) -> int:
        return self.states["ok"]

    @property
    def total(self) -> int:
        return sum(self.states.values())

    def ok_of(self, figure: Figure) -> int:
        """How many clips a figure is of."""
        found = self.figures.get(figure.name)
        return found.ok if found else 0

    def chance_of(self, figure: Figure) -> float | None:
        """The level that chance alone reaches in this set; None where none is known."""
        if isinstance(figure.chance, str):
            level = self.figures.get(figure.chance)
            return level.value if level else None
        return figure.chance


def summarise_metric(metric: Metric, rows: Sequence[Row], categories: Sequence[str]) -> MetricSummary:
    """Pool the rows of as many clips, with each clip's category."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row, category in zip(rows, categories, strict=True):
        if row.state == "ok":
            groups[category].append(row)
    states = Counter(row.state for row in rows)
    figures = _figures(metric, list(groups.values())) if groups else {}
    return MetricSummary(
        figures=figures,
        per_category={name: dict(metric.aggregate(group)) for name, group in groups.items()} if any(groups) else {},
        per_category_ok={name: len(group) for name, group in groups.items()},
        states={state: states[state] for state in STATES},
        reasons=tuple(Counter(row.reason for row in rows if row.reason).most_common()),
    )


def _figures(metric: Metric, groups: Sequence[Sequence[Row]]) -> dict[str, SetFigure]:
    if metric.pooling == "clips":
        groups = [[row for group in groups for row in group]]
    values = _pooled(metric, groups)
    counts = {name: _counts(groups, name) for name in values}
    if all(min(those) < 2 for those in counts.values()):
        return {name: SetFigure(value, None, sum(counts[name])) for name, value in values.items()}
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = defaultdict(list)
    for _ in range(RESAMPLES):
        chosen = [[group[index] for index in rng.integers(len(group), size=len(group))] for group in groups]
        for name, value in _pooled(metric, chosen).items():
            drawn[name].append(value)
    return {
        name: SetFigure(value, _middle(drawn[name]) if min(counts[name]) > 1 else None, sum(counts[name]))
        for name, value in values.items()
    }


def _counts(groups: Sequence[Sequence[Row]], name: str) -> list[int]:
    """How many rows a figure is of in each group that has it; one that no row has a value of is made of all rows together."""
    having = [sum(name in row.values for row in group) for group in groups]
    return [count for count in having if count] or [len(group) for group in groups]


def _pooled(metric: Metric, groups: Sequence[Sequence[Row]]) -> dict[str, float]:
    """The whole set's figures: those of the one group that there is, or the mean of the groups' figures."""
    parts = [metric.aggregate(group) for group in groups]
    if len(parts) == 1:
        return dict(parts[0])
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: float(np.mean([part[name] for part in parts if name in part])) for name in names}


def _middle(values: Sequence[float]) -> tuple[float, float] | None:
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return None
    low, high = np.quantile(finite, TAILS)
    return float(low), float(high)
