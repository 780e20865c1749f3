"""Training runs in folders that the operator named: which there are, their curves and samples, and asking one to stop."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phonofilm.training.checkpointing.run_folder import STEP_PREFIX, STOP, checkpoint_folders
from phonofilm.training.checkpointing.run_lock import training_process
from phonofilm.training.loop.metrics_log import read_metrics

METRICS = "metrics.csv"
CONFIG = "config.yaml"
SAMPLE = re.compile(r"[\w.-]{1,100}", re.ASCII)
LAST_STEP = re.compile(r"^\s*max_steps:\s*(\d{1,12})\s*$", re.MULTILINE)
# The section's lines are indented; of a list that is not empty, each entry has a line below.
VALIDATION_SETS = re.compile(r"^validation:\n(?:[ \t]+.*\n)*?[ \t]+sets:[ \t]*(.*)$", re.MULTILINE)
VARIANTS = {"video": ".mp4", "sheet": ".png"}
MOST_RUNS, DEEPEST = 500, 3
MOST_POINTS = 2000  # of a curve: more cannot be seen on a screen

Point = tuple[int, float, float]


@dataclass(frozen=True)
class RunFolder:
    """A run. id: a name that tells nothing of where it lies; root: the folder that the operator named."""

    id: str
    path: Path
    root: Path

    @property
    def name(self) -> str:
        return self.path.name if self.path == self.root else self.path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class RunState:
    """Where a run is. steps: at which it ends, where its settings say so; pace: seconds of an update, lately."""

    is_running: bool
    is_stopping: bool
    step: int | None
    steps: int | None
    seconds: float | None
    eta_seconds: float | None
    updated_at: float | None
    metrics: list[str]
    checkpoints: list[int]


@dataclass(frozen=True)
class SampleFile:
    """A clip that was made at a step."""

    step: int
    name: str


def find_runs(roots: Sequence[Path]) -> list[RunFolder]:
    """The runs in these folders (or the folders themselves), by name; also those that are about to begin."""
    found = []
    for number, root in enumerate(roots):
        for path in _of_trainings(root, 0):
            name = hashlib.sha256(f"{number} {path.relative_to(root).as_posix()}".encode()).hexdigest()[:24]
            found.append(RunFolder(f"run_{name}", path, root))
    return found[:MOST_RUNS]


def state_of(run: RunFolder) -> RunState:
    """How far the run is, from its files."""
    rows = read_metrics(run.path)
    running = training_process(run.path) is not None
    step, seconds = (rows[-1][0], rows[-1][1]) if rows else (None, None)
    steps = _last_step(run.path)
    eta = None
    if running and step and seconds is not None and steps is not None:
        half = next((row for row in rows if row[0] >= step / 2), rows[0])
        pace = (seconds - half[1]) / (step - half[0]) if step > half[0] else seconds / step
        eta = max(0.0, (steps - step) * pace)
    file = run.path / METRICS
    return RunState(
        is_running=running,
        is_stopping=running and (run.path / STOP).exists(),
        step=step,
        steps=steps,
        seconds=seconds,
        eta_seconds=eta,
        updated_at=file.stat().st_mtime if file.is_file() else None,
        metrics=sorted({row[2] for row in rows}),
        checkpoints=[int(folder.name.removeprefix(STEP_PREFIX)) for folder in checkpoint_folders(run.path)],
    )


def curves_of(run: RunFolder, after: int) -> dict[str, list[Point]]:
    """Every number over the updates after `after`, as (step, seconds, value); of very long curves every n-th."""
    curves: dict[str, list[Point]] = defaultdict(list)
    for step, seconds, name, value in read_metrics(run.path):
        if step > after and abs(value) < float("inf"):
            curves[name].append((step, seconds, value))
    return {name: _thinned(points) for name, points in sorted(curves.items())}


def modality_of(name: str) -> str | None:
    """Which modality a number is about, by its name's parts; None for neither."""
    parts = set(re.split(r"[/_.-]", name.lower()))
    found = [one for one in ("video", "audio") if one in parts]
    return "both" if len(found) == 2 else found[0] if found else None


def samples_of(run: RunFolder) -> list[SampleFile]:
    """The samples that were made, the newest first."""
    found = [
        SampleFile(int(file.parent.name.removeprefix(STEP_PREFIX)), file.stem)
        for file in (run.path / "samples").glob(f"{STEP_PREFIX}*/*.mp4")
        if file.parent.name.removeprefix(STEP_PREFIX).isdecimal() and SAMPLE.fullmatch(file.stem)
    ]
    return sorted(found, key=lambda one: (-one.step, one.name))


def sample_path(run: RunFolder, step: int, name: str, variant: str) -> Path | None:
    """The file of a sample; None where there is none."""
    known = SampleFile(step, name) in samples_of(run)
    file = run.path / "samples" / f"{STEP_PREFIX}{step:06d}" / f"{name}{VARIANTS[variant]}"
    return file if known and file.is_file() and file.resolve().is_relative_to(run.path.resolve()) else None


def newest_lora(run: RunFolder) -> str | None:
    """The newest LoRA that a run wrote, as a path from where the server was started; None where it trains whole models."""
    homes = [run.path, *reversed(checkpoint_folders(run.path))]
    found = next((file for home in homes if (file := home / "lora.safetensors").is_file()), None)
    return None if found is None else Path(os.path.relpath(found)).as_posix()


def ask_to_stop(run: RunFolder) -> None:
    """After the update in hand the run saves a checkpoint and ends."""
    (run.path / STOP).touch()


def _of_trainings(folder: Path, depth: int) -> list[Path]:
    """Folders with figures, and those where a training prepares, which has none yet."""
    if (folder / METRICS).is_file() or training_process(folder) is not None:
        return [folder]
    if depth == DEEPEST or not folder.is_dir():
        return []
    below = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    return [path for one in below if not one.is_symlink() for path in _of_trainings(one, depth + 1)]


def validated_on(run: RunFolder) -> Literal["other", "training"] | None:
    """Which clips the validation's figures are of, by the settings that the run wrote down; None where they do not say."""
    found = VALIDATION_SETS.search(_settings_of(run.path))
    return None if found is None else "training" if found[1] in ("[]", "null") else "other"


def _last_step(folder: Path) -> int | None:
    """The step at which the run ends, from the settings that it wrote down."""
    match = LAST_STEP.search(_settings_of(folder))
    return None if match is None else int(match[1])


def _settings_of(folder: Path) -> str:
    """The settings that the run wrote down; "" where there are none. Searched as text: a server may have no reader of YAML."""
    file = folder / CONFIG
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _thinned(points: list[Point]) -> list[Point]:
    each = -(-len(points) // MOST_POINTS)
    kept = points[::each] if each > 1 else points
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
