"""Measurements as lines of JSON, one row a line: appended at once, and on the disk before the next one is taken."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Rows:
    """A file of rows. Several processes may append to it; whoever is killed leaves every row so far whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: Mapping[str, object]) -> str:
        """Append a row; returns its line. Numbers keep four significant digits or more, and NaN becomes a word."""
        line = json.dumps(_plain(row), allow_nan=False)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{line}\n".encode())  # one call: lines of two processes do not mix
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return line


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every whole row of a file. What follows the last end of a line was cut off with its process, and is no row."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | bool) or value is None else str(value)
