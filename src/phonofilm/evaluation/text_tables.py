"""Results as rows of text, for a terminal: the figures of a run, why rows are not ok, and the comparison of two reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from phonofilm.evaluation.compare import PairedDifference
from phonofilm.evaluation.result import Evaluated
from phonofilm.units import counted
from phonofilm.untrusted import shown

MOST_PROBLEMS = 10  # clips whose files' problems are listed
SUMMARY_COLUMNS = ("figure", "value", "95 %", "chance", "n of N")
CHECK_COLUMNS = ("metric", "", "what is missing")
COMPARISON_COLUMNS = ("figure", "A", "B", "B - A", "95 %", "clips", "verdict")


def summary_rows(measured: Evaluated) -> list[tuple[str, ...]]:
    """A row of SUMMARY_COLUMNS for each figure."""
    rows: list[tuple[str, ...]] = []
    for metric in measured.metrics:
        summary = measured.summaries[metric.name]
        for figure in metric.own_figures if summary.figures else metric.own_figures[:1]:
            found = summary.figures.get(figure.name)
            value = f"{found.value:.4g} {figure.unit}".strip() if found else "–"
            interval = f"{found.ci95[0]:.4g} to {found.ci95[1]:.4g}" if found and found.ci95 else "–"
            level = summary.chance_of(figure)
            chance = "" if level is None else f"{level:.4g}"
            rows.append((figure.label, value, interval, chance, f"{summary.ok_of(figure)} of {summary.total}"))
    return rows


def reason_lines(measured: Evaluated) -> list[str]:
    """Every reason why rows are not ok, once: the metrics that give it, and for how many clips each. Then what is wrong with
    the files of clips, by `container`.
    """
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, summary in measured.summaries.items():
        for reason, count in summary.reasons:
            found[reason, count].append(name)
    reasons = [f"{', '.join(names)}: {count} × {reason}" for (reason, count), names in found.items()]
    problems = {
        clip: rows["container"].detail.get("problems", ())
        for clip, rows in measured.rows.items()
        if "container" in rows
    }
    wrong = [f"{shown(clip)}: {'; '.join(those)}" for clip, those in problems.items() if those]
    more = [f"problems of {counted(len(wrong) - MOST_PROBLEMS, 'clip')} more are in the report"] * (
        len(wrong) > MOST_PROBLEMS
    )
    return [*reasons, *wrong[:MOST_PROBLEMS], *more]


def comparison_rows(differences: Sequence[PairedDifference]) -> list[tuple[str, ...]]:
    """A row of COMPARISON_COLUMNS for each figure."""
    rows: list[tuple[str, ...]] = []
    for one in differences:
        interval = "–" if one.low is None or one.high is None else f"{one.low:+.4g} to {one.high:+.4g}"
        means = (f"{one.first:.4g}", f"{one.second:.4g}", f"{one.difference:+.4g}")
        rows.append((one.label, *means, interval, str(one.clips), one.verdict))
    return rows
