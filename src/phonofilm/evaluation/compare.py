"""Two reports of the same clips, compared clip by clip: differences and their intervals. Reads results, measures nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import InputError
from phonofilm.evaluation.row_cache import plain
from phonofilm.files import replacing
from phonofilm.units import counted
from phonofilm.untrusted import shown

RESAMPLES = 1000


@dataclass(frozen=True)
class PairedDifference:
    """One figure in both reports, over the clips that are ok in both.

    difference: mean of second - first; low, high: its 95 % interval over clips drawn with replacement, None for one clip.
    """

    metric: str
    figure: str
    label: str
    better: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    clips: int

    @property
    def verdict(self) -> str:
        """Which report is better, where the interval leaves no doubt and one way is better."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "none shown"
        if self.better == "none":
            return "different"
        return "B is better" if (self.difference > 0) == (self.better == "higher") else "A is better"


@dataclass(frozen=True)
class PairedFigure:
    """One figure of one clip in both reports."""

    metric: str
    figure: str
    label: str
    better: str
    clip: str
    first: float
    second: float


def differences(clips: Iterable[PairedFigure]) -> tuple[PairedDifference, ...]:
    """Each figure over its clips."""
    groups: dict[tuple[str, str], list[PairedFigure]] = defaultdict(list)
    for one in clips:
        groups[one.metric, one.figure].append(one)
    return tuple(map(_difference, groups.values()))


def paired_figures(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[PairedFigure]:
    """Every figure of every clip whose row is ok in both results, metric by metric; chance levels are left out.

    Raises InputError for other profiles, or when no clip is in both.
    """
    if first["profile"] != second["profile"]:
        raise InputError(
            f"A was measured under {first['profile']} and B under {second['profile']}; evaluate both under one profile"
        )
    ours, theirs = ({clip["id"]: clip["rows"] for clip in result["clips"]} for result in (first, second))
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise InputError("no clip is in both reports; clips are paired by name, so name both sets alike")
    found = []
    for metric, about in first["metrics"].items():
        if metric not in second["metrics"]:
            continue
        rows = [(name, ours[name].get(metric), theirs[name].get(metric)) for name in shared]
        levels = {one["chance"] for one in about["figures"].values()}
        ok = [(name, a["values"], b["values"]) for name, a, b in rows if a and b and a["state"] == b["state"] == "ok"]
        found += [
            PairedFigure(metric, figure, described["label"], described["better"], name, a[figure], b[figure])
            for figure, described in about["figures"].items()
            if figure not in levels
            for name, a, b in ok
            if figure in a and figure in b
        ]
    return found


def remarks(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Sentences on the clips that are not compared, and on those that should perhaps not be."""
    ids = ([clip["id"] for clip in result["clips"]] for result in (first, second))
    return [without_partner(*ids) or "every clip has a partner", *filter(None, [_with_other_prompts(first, second)])]


def without_partner(first: Iterable[str], second: Iterable[str]) -> str:
    """How many clips, by their ids in A and B, are in one of them alone, and which first; empty when all have a partner."""
    ours, theirs = set(first), set(second)
    sides = (("A", sorted(ours - theirs)), ("B", sorted(theirs - ours)))
    said = [
        f"{counted(len(alone), 'clip')} of {side} ({shown(alone[0])}{', ...' * (len(alone) > 1)})"
        for side, alone in sides
        if alone
    ]
    return f"without a partner, and not compared: {', '.join(said)}" if said else ""


def _with_other_prompts(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """How many clips of both results were made from another prompt in each, and which first; empty for none."""
    ours, theirs = ({one["id"]: one.get("prompt") for one in result["inputs"]} for result in (first, second))
    other = [
        name
        for name in ours
        if name in theirs and None not in (ours[name], theirs[name]) and ours[name] != theirs[name]
    ]
    if not other:
        return ""
    return f"made from other prompts in A and B: {counted(len(other), 'clip')} ({shown(other[0])}{', ...' * (len(other) > 1)})"


def write_comparison(
    found: Sequence[PairedDifference], clips: Sequence[PairedFigure], first: Path, second: Path, folder: Path
) -> list[Path]:
    """compare.json and compare.html in the folder; the page shows the clips of both reports side by side."""
    from phonofilm.evaluation.report_page import compare_page

    folder.mkdir(parents=True, exist_ok=True)
    value = {
        "schema": 1,
        "a": str(first),
        "b": str(second),
        "differences": [{**asdict(one), "verdict": one.verdict} for one in found],
        "clips": [asdict(one) for one in clips],
    }
    files = {
        folder / "compare.json": json.dumps(plain(value, 6), indent=1) + "\n",
        folder / "compare.html": compare_page(found, clips, first, second, folder),
    }
    for path, text in files.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return list(files)


def _difference(pairs: Sequence[PairedFigure]) -> PairedDifference:
    """Of one figure, over its clips."""
    values = np.array([(one.first, one.second) for one in pairs], float)
    each = values[:, 1] - values[:, 0]
    low = high = None
    if len(each) > 1:
        drawn = np.random.default_rng(0).integers(len(each), size=(RESAMPLES, len(each)))
        low, high = (float(one) for one in np.quantile(each[drawn].mean(1), (0.025, 0.975)))
    return PairedDifference(
        metric=pairs[0].metric,
        figure=pairs[0].figure,
        label=pairs[0].label,
        better=pairs[0].better,
        first=float(values[:, 0].mean()),
        second=float(values[:, 1].mean()),
        difference=float(each.mean()),
        low=low,
        high=high,
        clips=len(each),
    )
