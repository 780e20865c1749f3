"""What a checkpoint holds, and its files: weights that are read back before they count, and the rest of the run's state.

`model.safetensors` (trained weights), `average.safetensors` (their running average, if kept) and `state.pt` (optimizers,
random state, counters, config). Where processes have shards of the weights, `sharded/` holds all tensors instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.training.checkpointing.run_folder import STATE
from phonofilm.units import format_gigabytes


@dataclass(frozen=True)
class Snapshot:
    """Everything a run needs to go on as if it had never stopped. `state`: numbers, tensors, lists and dicts only."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    state: dict[str, Any]


Export = Callable[[Path, Snapshot], None]


def write_state(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Everything but weights, as `read_state` reads it."""
    with (folder / STATE).open("wb") as file:
        torch.save({"step": step, **state}, file)
        file.flush()
        os.fsync(file.fileno())


def read_state(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint's state with its "step"; its tensors only mapped, not read, if `mapped`.

    Raises CheckpointError when it cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path / STATE, weights_only=True, map_location="cpu", mmap=mapped)
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


@contextmanager
def removed_on_failure(fresh: Path, step: int) -> Iterator[None]:
    """A block that writes the checkpoint `fresh`, which is removed if it fails. Errors of the disk become a CheckpointError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        free = shutil.disk_usage(fresh.parent).free
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(
            f"the checkpoint of update {step} cannot be written to {fresh.parent}: {reason}; {format_gigabytes(free)} are "
            "free there. Make room, or set keep_last=1, and go on with --resume; older checkpoints are whole"
        ) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
