"""The published table of Verse-Bench, and when our figures may stand beside it. Numbers copied from the picture as printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phonofilm.evaluation.figures import MetricSummary
from phonofilm.evaluation.metric import Metric

SETS = {"set1": 205, "set2": 295, "set3": 100}  # how many prompts Verse-Bench's sets have
SPOKEN = ("set3",)
SHARE_NEEDED = 0.95


@dataclass(frozen=True)
class PaperColumn:
    """A column: whose figure stands in it (`Figure.paper` says which), and the sets it is quoted on.

    own_data: what it was measured on, where that is not Verse-Bench.
    """

    name: str
    metric: str
    better: str
    sets: tuple[str, ...] = tuple(SETS)
    own_data: str = ""


@dataclass(frozen=True)
class PaperRow:
    """A model as published; bridge: its guidance scale s_B. Columns without a value are not given there."""

    model: str
    bridge: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class PaperComparison:
    """Our figure for a column. reasons: why it may not be compared with the published ones; empty when it may."""

    column: PaperColumn
    value: float | None
    ci95: tuple[float, float] | None
    ok: int
    total: int
    reasons: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        return not self.reasons


COLUMNS = (
    PaperColumn("IS", "inception", "higher"),
    PaperColumn("DNSMOS", "dnsmos", "higher", SPOKEN),
    PaperColumn("DeSync", "desync", "lower"),
    PaperColumn("IB-Score", "ib_score", "higher"),
    PaperColumn("LSE-D", "lse", "lower", SPOKEN),
    PaperColumn("LSE-C", "lse", "higher", SPOKEN),
    PaperColumn(
        "cpCER",
        "cpcer",
        "lower",
        (),
        "published on 27 clips of MyBench with MOSS-Transcribe-Diarize; from another engine it is another figure",
    ),
)
_NAMES = tuple(column.name for column in COLUMNS)


def _row(model: str, bridge: float | None, *values: float | None) -> PaperRow:
    return PaperRow(
        model, bridge, {name: value for name, value in zip(_NAMES, values, strict=True) if value is not None}
    )


ROWS = (
    _row("LTX-2", None, 3.066, 3.635, 0.451, 0.213, 7.261, 6.109, 0.220),
    _row("Ovi", None, 3.680, 3.516, 0.515, 0.190, 7.468, 6.378, 0.436),
    _row("WAN2.1 + MMAudio", None, 4.036, None, 0.260, 0.317, None, None, None),
    _row("MOVA-360p", 1.0, 4.269, 3.797, 0.475, 0.286, 8.098, 6.278, 0.177),
    _row("MOVA-360p, dual CFG", 3.5, 4.169, 3.674, 0.351, 0.315, 7.004, 7.800, 0.247),
    _row("MOVA-720p", 1.0, 3.936, 3.671, 0.485, 0.277, 8.048, 6.593, 0.149),
    _row("MOVA-720p, dual CFG", 3.5, 3.814, 3.751, 0.370, 0.297, 7.094, 7.452, 0.218),
)


def compare_with_paper(
    metrics: Sequence[Metric], summaries: Mapping[str, MetricSummary], profile: str, asked: Mapping[str, int]
) -> tuple[PaperComparison, ...]:
    """Our figure for every column. asked: how many clips each category should have, by its name."""
    by_name = {metric.name: metric for metric in metrics}
    return tuple(
        _comparison(column, by_name[column.metric], summaries[column.metric], profile, asked)
        for column in COLUMNS
        if column.metric in by_name
    )


def _comparison(
    column: PaperColumn, metric: Metric, summary: MetricSummary, profile: str, asked: Mapping[str, int]
) -> PaperComparison:
    name = next((figure.name for figure in metric.figures if figure.paper == column.name), "")
    reasons = _reasons(column, summary, profile, asked)
    on_sets = bool(column.sets) and set(column.sets) < set(summary.per_category)
    figure = summary.figures.get(name)
    value, ci95, ok = (figure.value, figure.ci95, figure.ok) if figure else (None, None, 0)
    total = summary.total
    if on_sets:  # quoted on one set only: that set's own figure
        (only,) = column.sets
        value, ci95 = summary.per_category[only].get(name), None
        ok, total = summary.per_category_ok.get(only, 0), asked.get(only, 0)
    return PaperComparison(column, value, ci95, ok, total, reasons)


def _reasons(column: PaperColumn, summary: MetricSummary, profile: str, asked: Mapping[str, int]) -> tuple[str, ...]:
    found = []
    if profile != "compat":
        found.append(f"profile {profile}; published figures follow compat")
    if not summary.ok:
        found.append(f"no clip is ok: {summary.reasons[0][0]}" if summary.reasons else "no clip is ok")
    if column.own_data:
        found.append(column.own_data)
    for name in column.sets:
        needed, have = SETS[name], summary.per_category_ok.get(name, 0)
        if asked.get(name, 0) != needed or have < SHARE_NEEDED * needed:
            found.append(f"{have} of Verse-Bench's {needed} clips of {name} are ok; {SHARE_NEEDED:.0%} are needed")
    return tuple(found)
