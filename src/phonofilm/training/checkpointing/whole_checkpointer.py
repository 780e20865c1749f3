"""Checkpoints where every process has all of the trained weights: the main process writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from phonofilm.files import replacing
from phonofilm.training.checkpointing.best_weights import keep_best
from phonofilm.training.checkpointing.checkpointer import RunTensors
from phonofilm.training.checkpointing.run_folder import begin_checkpoint, checkpoint_path, commit_checkpoint
from phonofilm.training.checkpointing.sharded_files import is_sharded_checkpoint, load_shards
from phonofilm.training.checkpointing.snapshot import (
    Export,
    Snapshot,
    copy_weights,
    read_weights,
    removed_on_failure,
    write_state,
)
from phonofilm.training.checkpointing.verification import (
    refuse_other_parameters,
    refuse_values_not_finite,
    save_weights,
)


def save_whole_checkpoint(folder: Path, snapshot: Snapshot, keep_last: int, export: Export | None = None) -> Path:
    """Write to a temporary name, read back, compare, rename; then drop all but the `keep_last` newest.

    Raises CheckpointError, leaving older ones alone, when a weight is not finite, a file cannot be written or differs from
    memory.
    """
    refuse_values_not_finite(snapshot.step, snapshot.weights)
    target = checkpoint_path(folder, snapshot.step)
    fresh = begin_checkpoint(target)
    with removed_on_failure(fresh, snapshot.step):
        save_weights(fresh / "model.safetensors", snapshot.weights)
        if snapshot.average is not None:
            save_weights(fresh / "average.safetensors", snapshot.average)
        if export is not None:
            export(fresh, snapshot)
        write_state(fresh, snapshot.step, snapshot.state)
    commit_checkpoint(fresh, target, keep_last)
    return target


class WholeCheckpointer:
    """`export(folder, snapshot)` puts further files into every checkpoint and beside the best weights."""

    shards = 1

    def __init__(
        self, folder: Path, keep_last: int, tensors: RunTensors, accelerator: Accelerator, export: Export
    ) -> None:
        self._folder, self._keep_last, self._export = folder, keep_last, export
        self._tensors, self._accelerator = tensors, accelerator

    def optimizer_states(self) -> list[Any]:
        return [optimizer.state_dict() for optimizer in self._tensors.optimizers]

    def save(self, snapshot: Snapshot) -> None:
        if self._accelerator.is_main_process:
            save_whole_checkpoint(self._folder, snapshot, self._keep_last, self._export)

    def load(self, checkpoint: Path) -> None:
        tensors = self._tensors
        if is_sharded_checkpoint(checkpoint):
            load_shards(checkpoint, tensors)
            return
        weights, average = read_weights(checkpoint)
        refuse_other_parameters(checkpoint, weights, tensors.parameters)
        copy_weights(tensors.parameters, weights)
        if tensors.average is not None and average is not None:
            for name, tensor in tensors.average.items():
                tensor.copy_(average[name])

    def save_best(self, snapshot: Snapshot, new: Mapping[str, float]) -> None:
        if self._accelerator.is_main_process:
            keep_best(self._folder, snapshot.step, new, lambda folder: self._save_weights(folder, snapshot), replacing)

    def _save_weights(self, folder: Path, snapshot: Snapshot) -> None:
        save_weights(folder / "model.safetensors", snapshot.average or snapshot.weights)
        self._export(folder, snapshot)

    def final_weights(self) -> Mapping[str, Tensor]:
        return self._tensors.average or {name: p.detach() for name, p in self._tensors.parameters.items()}
