"""What the ranks of the tests of several devices do besides what the command does."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from phonofilm.cli.order import Order, _carry_out
from phonofilm.cli.studio import Studio
from phonofilm.parallel.parallel_session import ParallelSession


def die_in_the_first_step(team: ParallelSession, order: Order) -> list[Path]:
    """Carry the order out, but the second rank is killed when its first step is done."""

    def killed(*told: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    if not team.is_first:
        Studio._on_step = killed  # type: ignore[method-assign]
    return _carry_out(team, order)


def run_out_of_memory_in_the_first_step(team: ParallelSession, order: Order) -> list[Path]:
    """The same, but the second rank's device is full when its first step is done."""

    def full(*told: Any) -> Any:
        raise torch.OutOfMemoryError("tried to allocate 1 GB")

    if not team.is_first:
        Studio._on_step = full  # type: ignore[method-assign]
    return _carry_out(team, order)
