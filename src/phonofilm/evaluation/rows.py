"""The row of one clip and one metric: its state, its figures, and why there are none. Knows no metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "not_applicable", "unavailable", "failed", "skipped"]
STATES: tuple[State, ...] = ("ok", "not_applicable", "unavailable", "failed", "skipped")


@dataclass(frozen=True)
class Row:
    """What a metric says of one clip.

    Attributes:
        state: "ok"; "not_applicable" (no face, no speech, silent); "unavailable" (a package, weights or a key is missing);
            "failed" (an error, kept in `reason`); "skipped" (not asked for this clip).
        values: by figure name, finite; empty unless ok.
        detail: what else is worth reading in result.json: counts, offsets, a transcript. Plain JSON values. The report shows
            cpcer's `transcript` and `reference`, speakers tagged [S01], and container's `problems`.
        series: curves and vectors for the report and for `aggregate`, not written to result.json. The report draws lse's
            `distance` over `offset_seconds`.
        reason: one clause; empty when ok.
        seconds: that measuring took.
    """

    state: State
    values: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


def measured(
    values: Mapping[str, float],
    detail: Mapping[str, Any] | None = None,
    series: Mapping[str, Sequence[float]] | None = None,
) -> Row:
    """A row with figures."""
    return Row("ok", values, detail or {}, series or {})


def not_applicable(
    reason: str,
    detail: Mapping[str, Any] | None = None,
    series: Mapping[str, Sequence[float]] | None = None,
) -> Row:
    """A row of a clip that the metric has nothing to say about, and why."""
    return Row("not_applicable", detail=detail or {}, series=series or {}, reason=reason)
