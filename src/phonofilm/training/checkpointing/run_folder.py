"""The checkpoints of a run folder: how one takes its place, which of them count, and what a killed run leaves behind.

`checkpoints/step-00000200/` counts when its `state.pt` is there. Folders that are written, replaced or deleted have other
names, which begin with a dot, so that no moment at which a run is killed leaves half a checkpoint under a checkpoint's name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from phonofilm.errors import CheckpointError, InputError

STEP_PREFIX = "step-"
# Empty files by which anyone asks a run for a checkpoint, or for one and an end, after the update in hand.
SAVE, STOP = "save", "stop"
STATE = "state.pt"
WRITING, REPLACED, DELETING = ".writing-", ".replaced-", ".deleting-"


def checkpoint_folders(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob(f"{STEP_PREFIX}*") if (path / STATE).is_file())


def latest_checkpoint(folder: Path) -> Path:
    """The newest complete checkpoint. Raises CheckpointError when there is none."""
    found = checkpoint_folders(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint; expected {folder}/checkpoints/{STEP_PREFIX}...")
    return found[-1]


def refuse_second_start(folder: Path) -> None:
    """Raises InputError when a run folder holds checkpoints, which a run from the start would mix with its own."""
    if checkpoint_folders(folder):
        raise InputError(f"{folder} already holds checkpoints; go on with --resume, or name another folder")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of update `step` lies."""
    return folder / "checkpoints" / f"{STEP_PREFIX}{step:08d}"


def begin_checkpoint(target: Path) -> Path:
    """An empty folder beside `target`, to write the checkpoint into before `commit_checkpoint`."""
    fresh = target.with_name(f"{WRITING}{target.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def commit_checkpoint(fresh: Path, target: Path, keep_last: int) -> None:
    """Give a complete checkpoint its own name, then drop all but the `keep_last` newest."""
    replaced = target.with_name(f"{REPLACED}{target.name}")
    if target.exists():
        target.rename(replaced)
    fresh.rename(target)
    if replaced.exists():
        _delete(replaced)
    for old in [path for path in checkpoint_folders(target.parent.parent) if path != target][: -keep_last + 1 or None]:
        _delete(old)


def sweep_checkpoints(folder: Path) -> None:
    """Remove what runs that were killed left in the run folder. Only the process that holds the run's lock may call it."""
    home = folder / "checkpoints"
    for replaced in home.glob(f"{REPLACED}*"):
        name = replaced.name.removeprefix(REPLACED)
        if (home / name / STATE).is_file():
            _delete(replaced)
        else:  # killed between the two renames: its successor never took its place
            replaced.rename(home / name)
    for leftover in [*home.glob(f"{WRITING}*"), *home.glob(f"{DELETING}*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for incomplete in home.glob(f"{STEP_PREFIX}*"):
        if not (incomplete / STATE).is_file():
            _delete(incomplete)


def _delete(path: Path) -> None:
    """Rename, then delete: a kill in between leaves nothing that looks like a checkpoint."""
    gone = path.with_name(f"{DELETING}{path.name.lstrip('.')}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone)
