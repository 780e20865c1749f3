"""Checkpoints where every process has a shard of the trained weights: all of them write one together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from phonofilm.errors import CheckpointError
from phonofilm.training.checkpointing.best_weights import keep_best
from phonofilm.training.checkpointing.checkpointer import RunTensors
from phonofilm.training.checkpointing.process_agreement import on_first_process, replacing_in_all_processes
from phonofilm.training.checkpointing.run_folder import (
    begin_checkpoint,
    checkpoint_path,
    commit_checkpoint,
    latest_checkpoint,
)
from phonofilm.training.checkpointing.sharded_files import (
    SavedWeights,
    is_sharded_checkpoint,
    load_shards,
    named_tensors,
    save_sharded_tensors,
)
from phonofilm.training.checkpointing.snapshot import Snapshot, removed_on_failure, write_state


class ShardedCheckpointer:
    """The optimizers' tensors lie in the shards, beside the weights they belong to, and not in the state."""

    def __init__(self, folder: Path, keep_last: int, tensors: RunTensors, accelerator: Accelerator) -> None:
        self._folder, self._keep_last, self._tensors = folder, keep_last, tensors
        self.shards = accelerator.num_processes

    def optimizer_states(self) -> list[Any]:
        return []

    def save(self, snapshot: Snapshot) -> None:
        target = checkpoint_path(self._folder, snapshot.step)
        fresh = self._folder  # of no use but on the first process, until it is known everywhere
        with on_first_process() as first:
            if first:
                fresh = begin_checkpoint(target)
        fresh = Path(broadcast_object_list([str(fresh)])[0])
        with removed_on_failure(fresh, snapshot.step):
            save_sharded_tensors(named_tensors(self._tensors), fresh)
            with on_first_process() as first:
                if first:
                    write_state(fresh, snapshot.step, snapshot.state)
                    commit_checkpoint(fresh, target, self._keep_last)

    def load(self, checkpoint: Path) -> None:
        if not is_sharded_checkpoint(checkpoint):
            raise CheckpointError(f"{checkpoint} was not made in mode fsdp; go on in the mode it was made in")
        load_shards(checkpoint, self._tensors)

    def save_best(self, snapshot: Snapshot, new: Mapping[str, float]) -> None:
        everywhere = broadcast_object_list([new])[0]
        keep_best(self._folder, snapshot.step, everywhere, self._save_weights, replacing_in_all_processes)

    def _save_weights(self, folder: Path) -> None:
        tensors = self._tensors  # no adapters, so there is nothing to export
        kept = RunTensors({} if tensors.average else tensors.parameters, tensors.average, ())
        save_sharded_tensors(named_tensors(kept), folder)

    def final_weights(self) -> Mapping[str, Tensor]:
        return SavedWeights(latest_checkpoint(self._folder))
