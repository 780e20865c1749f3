"""What the loop asks of whoever keeps its checkpoints, whether each process has all of the weights or a shard of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from phonofilm.training.checkpointing.snapshot import Snapshot


@dataclass(frozen=True)
class RunTensors:
    """The tensors of a run: trained parameters by name, their running average if one is kept, and the optimizers."""

    parameters: Mapping[str, nn.Parameter]
    average: dict[str, Tensor] | None
    optimizers: tuple[Any, ...]


class Checkpointer(Protocol):
    """Keeps the checkpoints and the best weights of one run. Every process calls every method.

    `shards`: processes that each write a shard of their own; 1 where one writes everything.
    """

    shards: int

    def optimizer_states(self) -> list[Any]:
        """What a snapshot's state holds of the optimizers."""

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint that counts once it is whole. Raises CheckpointError, leaving older ones alone."""

    def load(self, checkpoint: Path) -> None:
        """Put a checkpoint's weights and average into the run, and the optimizers where they are not in its state.

        Raises CheckpointError for one that this run cannot go on from.
        """

    def save_best(self, snapshot: Snapshot, new: Mapping[str, float]) -> None:
        """Keep the weights as the best ones of these names and values, which the main process alone must know."""

    def final_weights(self) -> Mapping[str, Tensor]:
        """The trained weights after the last `save`, averaged if an average is kept; for the main process."""
