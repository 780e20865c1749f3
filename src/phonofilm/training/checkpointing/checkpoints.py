"""Checkpoints of a running training: written whole or not at all, read back before they count, found again, hashed.

A run folder holds `checkpoints/step-00000200/` with `model.safetensors` (trained weights), `average.safetensors` (their
running average, if kept) and `state.pt` (optimizers, random state, counters, config). Where processes have parts of the
weights, `sharded/` holds all tensors instead (`cut_checkpoints`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from phonofilm.errors import CheckpointError

STEP_PREFIX = "step-"
SHARDED = "sharded"


@dataclass(frozen=True)
class Snapshot:
    """Everything a run needs to go on as if it had never stopped. `state`: numbers, tensors, lists and dicts only."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    state: dict[str, Any]


Export = Callable[[Path, Snapshot], None]


def save_whole_checkpoint(folder: Path, snapshot: Snapshot, keep_last: int, export: Export | None = None) -> Path:
    """Write to a temporary name, read back, compare, rename; then drop all but the `keep_last` newest.

    `export(folder, snapshot)` may put more files into the folder before it is renamed.
    Raises CheckpointError, leaving older ones alone, when a weight is not finite or the file differs from memory.
    """
    home = folder / "checkpoints"
    home.mkdir(parents=True, exist_ok=True)
    for name, weight in snapshot.weights.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"refusing to save step {snapshot.step}: {name} holds values that are not finite")
    target = home / f"{STEP_PREFIX}{snapshot.step:08d}"
    fresh = home / f".writing-{target.name}-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    save_weights(fresh / "model.safetensors", snapshot.weights)
    if snapshot.average is not None:
        save_weights(fresh / "average.safetensors", snapshot.average)
    write_state(fresh, snapshot.step, snapshot.state)
    if export is not None:
        export(fresh, snapshot)
    commit_checkpoint(fresh, target, keep_last)
    return target


def write_state(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Everything but weights, as `read_state` reads it."""
    with (folder / "state.pt").open("wb") as file:
        torch.save({"step": step, **state}, file)
        file.flush()
        os.fsync(file.fileno())


def commit_checkpoint(fresh: Path, target: Path, keep_last: int) -> None:
    """Rename a complete checkpoint to its own name; then drop all but the newest, and what was never completed."""
    home = target.parent
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
    for old in [path for path in checkpoint_folders(home.parent) if path != target][: -keep_last + 1 or None]:
        shutil.rmtree(old)
    for leftover in home.glob(".writing-*"):
        shutil.rmtree(leftover)


def is_sharded_checkpoint(checkpoint: Path) -> bool:
    """Whether its weights lie in parts, as processes that had parts of them wrote them."""
    return (checkpoint / SHARDED).is_dir()


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's state with its "step". Raises CheckpointError when it cannot be read."""
    try:
        state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to resume from the one before") from error
    return state


def load_snapshot(path: Path) -> Snapshot:
    """Read one checkpoint folder, onto the host."""
    state = read_state(path)
    return Snapshot(state.pop("step"), *read_weights(path), state)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """A whole checkpoint's weights and their average, if it has one. Raises CheckpointError when they cannot be read."""
    average = path / "average.safetensors"
    try:
        weights = load_file(path / "model.safetensors")
        averaged = load_file(average) if average.exists() else None
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to resume from the one before") from error
    return weights, averaged


def load_whole_checkpoint(
    path: Path, parameters: Mapping[str, nn.Parameter], average: Mapping[str, Tensor] | None
) -> None:
    """Put a whole checkpoint's weights, and their average where one is kept, into these.

    Raises CheckpointError when it trains other parameters.
    """
    weights, averaged = read_weights(path)
    refuse_other_parameters(path, weights, parameters)
    copy_weights(parameters, weights)
    if average is not None and averaged is not None:
        for name, tensor in average.items():
            tensor.copy_(averaged[name])


def refuse_other_parameters(path: Path, saved: Collection[str], trained: Collection[str]) -> None:
    """Raises CheckpointError when a checkpoint does not hold the very parameters that are trained now."""
    if set(saved) != set(trained):
        raise CheckpointError(f"{path} trains other parameters than this run; expected {len(trained)}")


def refuse_config_changes(before: dict[str, Any], now: dict[str, Any], allowed: Collection[str]) -> None:
    """Raises CheckpointError when two configs differ in a dotted key that is neither `allowed` to nor below one that is."""
    old, new = _flat(before), _flat(now)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    refused = [key for key in changed if not any(key == name or key.startswith(f"{name}.") for name in allowed)]
    if refused:
        raise CheckpointError(
            f"the config changed since the checkpoint in {', '.join(refused)}; "
            "restore it, name these keys as allowed to change, or start a new run folder"
        )


def _flat(told: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections by dotted keys."""
    if not isinstance(told, dict) or not told:
        return {prefix.removesuffix("."): told}
    return {key: value for name, inner in told.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}


def checkpoint_folders(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted((folder / "checkpoints").glob(f"{STEP_PREFIX}*"))


def latest_checkpoint(folder: Path) -> Path:
    found = checkpoint_folders(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint; expected {folder}/checkpoints/{STEP_PREFIX}...")
    return found[-1]


def load_weights(checkpoint: Path, model: nn.Module, average: bool = True) -> None:
    """Put a checkpoint's trained weights (their running average if there is one and `average`) into `model`.

    The names must all be known to the model; parameters the checkpoint did not train are left as they are.
    """
    averaged = checkpoint / "average.safetensors"
    weights = load_file(averaged if average and averaged.exists() else checkpoint / "model.safetensors")
    copy_weights(dict(model.named_parameters()), weights)


@torch.no_grad()
def copy_weights(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    """Copy by name. Raises CheckpointError when a name is unknown or a shape differs."""
    for name, weight in weights.items():
        if name not in parameters:
            raise CheckpointError(f"the checkpoint trains {name}, which this model does not have")
        if parameters[name].shape != weight.shape:
            given, expected = tuple(weight.shape), tuple(parameters[name].shape)
            raise CheckpointError(f"{name} has shape {given} in the checkpoint and {expected} in the model")
        parameters[name].copy_(weight)


def digest(value: Any) -> str:
    """SHA-256 over nested dicts, lists, numbers and tensors: equal exactly when all of them are, bit for bit."""
    hasher = hashlib.sha256()
    _feed(hasher, value)
    return hasher.hexdigest()


def _feed(hasher: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        hasher.update(f"{value.dtype}{tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            hasher.update(f"{key}=".encode())
            _feed(hasher, value[key])
    elif isinstance(value, list | tuple):
        hasher.update(f"[{len(value)}]".encode())
        for item in value:
            _feed(hasher, item)
    else:
        hasher.update(repr(value).encode())


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file and read it back. Raises CheckpointError when it differs from memory."""
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(on_host, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    if digest(load_file(path)) != digest(on_host):
        raise CheckpointError(f"{path.name} reads back differently from what was written; is the disk full or failing?")
