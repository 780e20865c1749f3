"""What the ranks of the tests of several devices do besides what the command does."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from phonofilm.generation import clip_maker
from phonofilm.generation.report import OnProgress, silent
from phonofilm.generation.run import RunOptions, run_on_this_rank
from phonofilm.parallel.parallel_session import ParallelSession


def quiet() -> AbstractContextManager[OnProgress]:
    return nullcontext(silent)


def die_in_the_first_step(team: ParallelSession, options: RunOptions) -> list[Path]:
    """Run it, but the second rank is killed when its first step is done."""

    def killed(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    if not team.is_first:
        clip_maker._on_step = killed
    return run_on_this_rank(team, options, quiet)


def run_out_of_memory_in_the_first_step(team: ParallelSession, options: RunOptions) -> list[Path]:
    """The same, but the second rank's device is full when its first step is done."""

    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("tried to allocate 1 GB")

    if not team.is_first:
        clip_maker._on_step = full
    return run_on_this_rank(team, options, quiet)
