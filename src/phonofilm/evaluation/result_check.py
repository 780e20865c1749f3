"""Whether a result.json holds what comparing reads of it: files are copied together and edited by hand. Reads no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from phonofilm.errors import InputError
from phonofilm.evaluation.rows import STATES
from phonofilm.untrusted import shown

LARGEST = 1e15  # its squares can still be added up
BETTER = ("higher", "lower", "none")


def check_result(result: Mapping[str, Any], name: str) -> None:
    """Raises InputError, which begins with `name`, for the first part that is missing or of another kind."""
    checks: dict[str, Callable[[Any], str | None]] = {
        "profile": lambda value: _text(value, "profile"),
        "inputs": lambda value: _each(value, "inputs", _input_fault),
        "metrics": _metrics_fault,
        "clips": lambda value: _each(value, "clips", _clip_fault),
    }
    for key, fault_of in checks.items():
        fault = f"it has no {key}" if key not in result else fault_of(result[key]) or _twice(key, result[key])
        if fault is not None:
            raise InputError(f"{name} is no result of phonofilm evaluate: {fault}; evaluate those clips again")


def _each(value: object, where: str, fault_of: Callable[[Mapping[str, Any], str], str | None]) -> str | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return f"{where} is no list"
    for index, one in enumerate(value):
        place = f"{where}[{index}]"
        fault = fault_of(one, place) if isinstance(one, Mapping) else f"{place} is no object"
        if fault is not None:
            return fault
    return None


def _twice(key: str, value: object) -> str | None:
    """A clip that stands there twice: which of its rows would be compared?"""
    ids = [one["id"] for one in value] if key in ("clips", "inputs") and isinstance(value, Sequence) else []
    again = next((name for name, times in Counter(ids).items() if times > 1), None)
    return None if again is None else f"{key} has {shown(again)} twice"


def _input_fault(one: Mapping[str, Any], where: str) -> str | None:
    return _text(one.get("id"), f"{where}.id") or _text(one.get("path"), f"{where}.path")


def _metrics_fault(metrics: object) -> str | None:
    if not isinstance(metrics, Mapping):
        return "metrics is no object"
    for metric, about in metrics.items():
        figures = about.get("figures") if isinstance(about, Mapping) else None
        if not isinstance(figures, Mapping):
            return f"metrics.{metric} has no figures"
        for figure, described in figures.items():
            where = f"metrics.{metric}.figures.{figure}"
            if not isinstance(described, Mapping) or described.get("better") not in BETTER:
                return f"{where}.better is none of {', '.join(BETTER)}"
            if fault := _text(described.get("label"), f"{where}.label"):
                return fault
            chance = described.get("chance")
            if not isinstance(chance, str | None) and not is_number(chance):
                return f"{where}.chance is neither a number nor a figure's name"
    return None


def _clip_fault(clip: Mapping[str, Any], where: str) -> str | None:
    if fault := _text(clip.get("id"), f"{where}.id"):
        return fault
    rows = clip.get("rows")
    if not isinstance(rows, Mapping):
        return f"{where} has no rows"
    for metric, row in rows.items():
        if not isinstance(row, Mapping) or row.get("state") not in STATES:
            return f"{where}.rows.{metric}.state is none of {', '.join(STATES)}"
        values = row.get("values")
        if not isinstance(values, Mapping) or not all(map(is_number, values.values())):
            return f"{where}.rows.{metric}.values holds no numbers"
    return None


def is_number(value: object) -> bool:
    """One of a size that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _text(value: object, where: str) -> str | None:
    return None if isinstance(value, str) else f"{where} is no text"
