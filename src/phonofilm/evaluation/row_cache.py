"""Rows that are measured already, by what decides them: the clip's bytes, the metric and its setup. One small file each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Metric
from phonofilm.evaluation.result_check import is_number
from phonofilm.evaluation.rows import Row
from phonofilm.evaluation.weights import digest_of
from phonofilm.files import replacing
from phonofilm.untrusted import parse_json

LASTING = ("ok", "not_applicable")  # what failed or lacked something is tried again


def row_key(metric: Metric, clip: ClipFacts) -> str:
    """What decides the row, as 16 hexadecimal digits."""
    needs = metric.needs
    decides = {
        "metric": [metric.name, metric.version, metric.identity],
        "profile": metric.setup.profile,
        "weights": [[file.name, digest_of(file, metric.setup.weights)] for file in needs.weights],
        "clip": clip.sha256,
        "item": None if clip.item is None else asdict(clip.item),
    }
    return _digest(decides)[:16]


class RowCache:
    """The rows in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, metric: Metric, clip: ClipFacts) -> Row | None:
        """The kept row; None where there is none, it cannot be read, or it is not as it was written."""
        try:
            kept = parse_json(self._file(metric, clip).read_bytes())
            if kept["sha256"] != _digest(kept["row"]) or not _is_row(kept["row"]):
                return None
            return Row(**kept["row"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, metric: Metric, clip: ClipFacts, row: Row) -> None:
        """Write the row, if it will not be different next time."""
        if row.state not in LASTING:
            return
        value = plain(asdict(row))
        with replacing(self._file(metric, clip)) as temporary:
            temporary.write_text(json.dumps({"row": value, "sha256": _digest(value)}), encoding="utf-8")

    def _file(self, metric: Metric, clip: ClipFacts) -> Path:
        return self.folder / metric.name / f"{row_key(metric, clip)}.json"


def _is_row(row: Any) -> bool:
    """Whether it can have been written by `keep`: somebody may hand over a report's folder with rows of their own making."""
    return (
        row["state"] in LASTING
        and isinstance(row["reason"], str)
        and is_number(row["seconds"])
        and all(isinstance(row[name], dict) for name in ("values", "detail", "series"))
        and all(map(is_number, row["values"].values()))
        and all(isinstance(one, list) for one in row["series"].values())
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def plain(value: Any, digits: int | None = None) -> Any:
    """The value as JSON has it: lists and dicts, numpy's numbers as Python's, floats rounded, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(part, digits) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, digits) for part in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return value if digits is None else round(value, digits)
    return value
