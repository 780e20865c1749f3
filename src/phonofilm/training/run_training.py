"""A training from its config to its end, or only its plan: what `phonofilm train` does, without its screen."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from phonofilm.training.config.finetune_config import FinetuneConfig
from phonofilm.training.dry_run.estimate import Estimate
from phonofilm.training.finetune import FinetuneResult, finetune, open_run, prepare_finetune
from phonofilm.training.finetune_hooks import finetune_dry_run, finetune_hooks
from phonofilm.training.loop.distill_validation import ClipReader
from phonofilm.training.loop.processes import join_processes
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.training_state import ProgressCallback
from phonofilm.training.task.adapters import AdaptedPart
from phonofilm.training.task.finetune_task import FinetuneTask
from phonofilm.training.task.interface import Hook


class TrainingScreen(Protocol):
    """What shows a training; of several processes, only the main one tells it what is adapted and what is estimated."""

    def preparing(self) -> AbstractContextManager[object]:
        """Entered while clips are encoded and networks loaded."""

    def training(self) -> AbstractContextManager[ProgressCallback]:
        """Entered while the training runs; what it gives is called after every update."""

    def show_adapted(self, parts: tuple[AdaptedPart, ...]) -> None:
        """What will be trained."""

    def show_estimate(self, estimate: Estimate) -> None:
        """What the dry run measured."""


def run_training(
    config: FinetuneConfig,
    output: Path,
    screen: TrainingScreen,
    reader: ClipReader | None = None,
    resume: bool = False,
    allow: Sequence[str] = (),
) -> FinetuneResult | None:
    """Train into `output`; the result, or None in a process that is not the main one. Raises as `open_run` does.

    `reader`: see `finetune_hooks`.
    """
    with open_run(config, output, resume=resume, allow=allow) as goes_on:
        task, hooks = _prepared(config, output, screen, reader)

        def plan(trainer: Trainer) -> None:
            _measure(task, trainer, screen)

        with screen.training() as watch:
            result = finetune(task, output, hooks, resume=goes_on, allow=allow, watch=watch, before=plan)
    return result if join_processes(task.config).is_main_process else None


def plan_training(
    config: FinetuneConfig, output: Path, screen: TrainingScreen, reader: ClipReader | None = None
) -> None:
    """Measure what a run would take, by a dry run."""
    with open_run(config, output, only_plan=True):
        task, hooks = _prepared(config, output, screen, reader)
        _measure(task, Trainer(task, task.config, output, hooks), screen)


def _prepared(
    config: FinetuneConfig, output: Path, screen: TrainingScreen, reader: ClipReader | None
) -> tuple[FinetuneTask, tuple[Hook, ...]]:
    """What is to be trained and what looks on, loaded and checked."""
    with screen.preparing():
        task = prepare_finetune(config, output)
        if task.adapted and join_processes(task.config).is_main_process:
            screen.show_adapted(task.adapted)
        return task, finetune_hooks(task, output, reader)


def _measure(task: FinetuneTask, trainer: Trainer, screen: TrainingScreen) -> None:
    estimate = finetune_dry_run(task, trainer)
    if join_processes(task.config).is_main_process:
        screen.show_estimate(estimate)
