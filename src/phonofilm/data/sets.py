"""Several data sets together: which windows they hold, how often an epoch shows each, and in which order.

The order is a pure function of the seed and the number of the draw, so resuming needs to save nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phonofilm.data.manifest import Item, read_manifest
from phonofilm.data.probe import probe
from phonofilm.data.windows import ClipWindow, WindowPlan, windows_of
from phonofilm.data.yaml_files import read_yaml
from phonofilm.errors import InputError
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A folder, a manifest or a YAML of several, and how often an epoch shows each window (times the clip's own repeats)."""

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1000:
            raise InputError(f"{self.path}: weight {self.weight:g} is outside 0 to 1000; leave the set out for 0")


def read_sources(path: Path) -> tuple[Source, ...]:
    """The data sets that a path names: itself, or those of a YAML file.

    The YAML is a list of paths (from its own folder), or of path with weight: `- {path: clips, weight: 2}`. Raises
    InputError for anything else.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        return (Source(path),)
    rows = read_yaml(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected a list of data sets, for example - {{path: clips, weight: 2}}")
    return tuple(_source(row, path, number) for number, row in enumerate(rows, start=1))


def read_items(path: Path) -> tuple[Item, ...]:
    """The clips of a folder, of a manifest, or of all sets that a YAML file names."""
    return tuple(item for source in read_sources(path) for item in read_manifest(source.path))


def _source(row: Any, path: Path, number: int) -> Source:
    entry = {"path": row} if isinstance(row, str) else row
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not set(entry) <= {"path", "weight"}:
        raise InputError(f"{path}, entry {number}: {shown(repr(row))} is not a path, or a path with a weight")
    weight = entry.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise InputError(f"{path}, entry {number}: weight {shown(repr(weight))} is not a number")
    return Source(path.parent / entry["path"], weight)


def weighted_sources(paths: Sequence[Path], weights: Sequence[int] | None) -> list[Source]:
    """Sets with how often an epoch shows each; once without `weights`. Raises InputError unless there is one for each."""
    shares = weights or [1] * len(paths)
    if len(shares) != len(paths):
        raise InputError(f"{len(shares)} weights were given for {len(paths)} sets; give one for each")
    return [Source(path, share) for path, share in zip(paths, shares, strict=True)]


@dataclass(frozen=True)
class Weighted:
    """A window, and how often an epoch shows it: 2.5 is twice, and once more in every other epoch on average."""

    window: ClipWindow
    weight: float


def gather(sources: Sequence[Source], plan: WindowPlan, *, refuse_silent: bool = False) -> tuple[Weighted, ...]:
    """All windows of all sources, in order; those of a YAML have both weights multiplied.

    Clips without a sound track are kept with has_audio False, which masks them out of the audio loss; `refuse_silent`
    makes them an InputError instead, as is a clip that is too short.
    """
    found = []
    named = [
        replace(inner, weight=inner.weight * outer.weight) for outer in sources for inner in read_sources(outer.path)
    ]
    for source in named:
        for item in read_manifest(source.path):
            for window in windows_of(item, probe(item.file), plan):
                if not window.has_audio and refuse_silent:
                    raise InputError(f"{item.origin or item.file} has no sound; give it some, or allow silent clips")
                found.append(Weighted(window, source.weight * item.repeats))
    silent = sum(not entry.window.has_audio for entry in found)
    if silent:
        logger.warning("%d of %d windows have no sound; only their picture is learnt", silent, len(found))
    return tuple(found)


class WeightedOrder:
    """Rows in the order they are drawn, epoch after epoch; row r comes weights[r] times per epoch on average.

    A whole weight comes exactly that often; a fraction is drawn anew in each epoch.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        if not weights or min(weights) < 0 or max(weights) <= 0:
            raise InputError("an order needs rows, and one at least with a weight above 0")
        self.weights = tuple(weights)
        self.seed = seed
        self._ends: list[int] = []  # how many draws are done when each epoch ends
        self._epoch = -1
        self._rows: list[int] = []

    def row(self, draw: int) -> int:
        """The row of the draw with this number, from 0 on."""
        while not self._ends or self._ends[-1] <= draw:
            epoch = len(self._ends)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self._of(epoch)))
        epoch = next(number for number, end in enumerate(self._ends) if draw < end)
        if epoch != self._epoch:
            self._epoch, self._rows = epoch, self._of(epoch)
        return self._rows[draw - (self._ends[epoch - 1] if epoch else 0)]

    def _of(self, epoch: int) -> list[int]:
        source = random.Random(self.seed * 1_000_003 + epoch)
        rows = []
        for row, weight in enumerate(self.weights):
            whole = int(weight)
            rows += [row] * (whole + (source.random() < weight - whole))
        source.shuffle(rows)
        return rows
