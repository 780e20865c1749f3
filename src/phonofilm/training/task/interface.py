"""What the loop and the things it trains agree on: a task with a loss, an index that gives it randomness, hooks that look on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from phonofilm.training.checkpointing.snapshot import Snapshot
from phonofilm.training.loop.metrics_log import HookResult, LossReport


@dataclass(frozen=True)
class BatchIndex:
    """One micro-step of one process (or of the processes that share a clip, `rank` and `processes` then count these
    groups): where it stands, and the randomness and data that belong to it alone.

    Both are pure functions of these numbers, so a resumed run draws what an uninterrupted one would have drawn.
    `halted`: the modalities that no longer learn, whose loss must not count.
    """

    step: int
    micro: int
    micro_steps: int
    rank: int
    processes: int
    seed: int
    halted: frozenset[str] = frozenset()

    def generator(self, purpose: int, device: torch.device | None = None) -> torch.Generator:
        """A generator of its own for each `purpose`, on the host unless a device is given."""
        key = self.seed
        for number in (self.step, self.micro, self.rank, purpose):
            key = (key * 1_000_003 + number + 1) % 2**61
        return torch.Generator(device or torch.device("cpu")).manual_seed(key)

    def first_draw(self, batch_size: int) -> int:
        """How many samples the run drew before this micro-batch, over all processes."""
        return ((self.step * self.micro_steps + self.micro) * self.processes + self.rank) * batch_size


@dataclass(frozen=True)
class TaskLoss:
    """What to minimise (a scalar, mean over the micro-batch), what to log of it, and the names of its clips, if they have any."""

    total: Tensor
    report: LossReport
    clips: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunEnd:
    """Why and where a run returned."""

    reason: Literal["finished", "paused", "interrupted"]
    step: int
    elapsed: float


class TrainingTask(Protocol):
    """What is trained: a module, of which the parameters that require a gradient are updated and saved, and its loss."""

    @property
    def model(self) -> nn.Module: ...

    def rate_scales(self) -> dict[str, float]:
        """Multipliers of the learning rate by parameter name; absent = 1."""

    @property
    def together(self) -> bool:
        """Whether the model computes only when every process calls it, because each holds a part of its weights."""

    @property
    def processes_per_clip(self) -> int:
        """How many consecutive processes share one clip's tokens: they have the same batch index."""

    @property
    def content(self) -> str:
        """A hash of the data that is learnt: a run is not resumed on other data unless that is allowed."""

    def prepare(self, device: torch.device) -> None:
        """Called once: put the model where it trains."""

    def loss(self, model: nn.Module, index: BatchIndex) -> TaskLoss:
        """The loss of one micro-batch. `model` is the task's own."""

    def export(self, folder: Path, snapshot: Snapshot) -> None:
        """Put into a checkpoint that is being written whatever its user wants besides the run's own state."""


@dataclass(frozen=True)
class HookContext:
    """When a hook is called: the number of updates done, seconds of training so far, and the run's folder."""

    step: int
    elapsed: float
    folder: Path


class Hook(Protocol):
    """Looks at the model now and then: at step 0, every `every` updates, and at the end. Returns what to log.

    It runs with the averaged weights in place. Whatever it does, or if it fails, training goes on unchanged.
    """

    name: str
    every: int

    def __call__(self, moment: HookContext) -> HookResult: ...
