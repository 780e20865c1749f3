"""Files of weights: whether they are where they should be, and whole. Nothing is downloaded."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from phonofilm.errors import CheckpointError
from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.metric import Metric, Setup
from phonofilm.evaluation.requirements import Requirements, WeightFile
from phonofilm.files import file_hash
from phonofilm.untrusted import file_fault

FOLDER_VARIABLE = "PHONOFILM_EVALUATION_WEIGHTS"
Readiness = Literal["ready", "missing package", "missing weights", "needs a key", "needs a setting"]


@dataclass(frozen=True)
class Check:
    """Whether a metric can run here. lacks: one clause for everything that is missing."""

    metric: str
    readiness: Readiness
    lacks: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        return self.readiness == "ready"

    @property
    def reason(self) -> str:
        return f"{self.readiness}: {'; '.join(self.lacks)}" if self.lacks else ""


def weights_folder(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of --weights, else that of PHONOFILM_EVALUATION_WEIGHTS."""
    named = environment.get(FOLDER_VARIABLE)
    return given or (Path(named) if named else None)


def find_weights(file: WeightFile, folder: Path | None) -> Path:
    """The file in the folder. Raises CheckpointError that says what is missing, how large it is and where it goes."""
    lack = _lacks_file(file, folder)
    if lack is not None or folder is None:
        raise CheckpointError(lack or "no folder")
    return folder / file.name


def digest_of(file: WeightFile, folder: Path | None) -> str:
    """The SHA-256 of the file that is in the folder, read once as long as it stays the same; "" for one that is not there."""
    if folder is None or file_fault(folder / file.name) is not None:
        return ""
    found = (folder / file.name).stat()
    return _digest(folder / file.name, found.st_size, found.st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    return file_hash(path)


def check(metric: Metric, *, hashes: bool = False, environment: Mapping[str, str] = os.environ) -> Check:
    """What the metric lacks on this machine. `hashes` reads every file of weights and compares its SHA-256."""
    needs = metric.needs
    for readiness, lacks in (
        ("missing package", _lacking_packages(needs)),
        ("missing weights", _lacking_weights(needs, metric.setup.weights, hashes)),
        ("needs a key", tuple(f"set {key}" for key in needs.keys if not environment.get(key))),
        ("needs a setting", needs.settings),
    ):
        if lacks:
            return Check(metric.name, readiness, lacks)  # type: ignore[arg-type]
    return Check(metric.name, "ready")


def check_all(metrics: Sequence[str], setup: Setup) -> list[Check]:
    """What each of the named metrics lacks, whole files of weights compared."""
    return [check(metric, hashes=True) for metric in build(metrics, setup)]


def _lacking_packages(needs: Requirements) -> tuple[str, ...]:
    return tuple(
        f"{package.module} (pip install 'phonofilm[{package.extra}]')"
        for package in needs.packages
        if importlib.util.find_spec(package.module) is None
    )


def _lacking_weights(needs: Requirements, folder: Path | None, hashes: bool) -> tuple[str, ...]:
    lacks = [_lacks_file(file, folder, hashes) for file in needs.weights]
    return tuple(lack for lack in lacks if lack is not None)


def _lacks_file(file: WeightFile, folder: Path | None, hashes: bool = False) -> str | None:
    where = (
        f"put it into {folder}" if folder else f"put it into a folder and name that with --weights or {FOLDER_VARIABLE}"
    )
    size = f"about {file.nbytes:,}" if file.rounded else f"{file.nbytes:,}"
    described = f"{file.name} ({size} bytes, {file.licence}, from {file.source}"
    described += f", sha256 {file.sha256})" if file.sha256 else ")"
    if folder is None or file_fault(folder / file.name) is not None:
        return f"{described}: {where}"
    found = (folder / file.name).stat().st_size
    if abs(found - file.nbytes) > (file.nbytes // 100 if file.rounded else 0):
        return f"{described}: the file there has {found:,} bytes; it is another one, or cut off"
    if hashes and file.sha256:
        first, _, last = file.sha256.partition("...")
        digest = digest_of(file, folder)
        if not (digest.startswith(first) and digest.endswith(last)):
            return f"{described}: the file there has sha256 {digest}"
    return None
