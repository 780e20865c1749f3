"""A training in several processes of this machine: ranks of the one launcher, which find each other as torchrun's do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from phonofilm.errors import InputError
from phonofilm.parallel.launcher import launch
from phonofilm.parallel.rank import Rank, launcher_rank, process_group
from phonofilm.training.config.training_config import LoopConfig
from phonofilm.training.loop.processes import PROCESS_TIMEOUT, on_cpu

Result = TypeVar("Result")


def in_processes(gpus: int, config: LoopConfig, work: Callable[..., Result], *arguments: Any) -> Result:
    """`work(*arguments)` in `gpus` processes that train together; returns what the first of them returned.

    In this process alone for one, and where torchrun has made it one of several. `work` is a module's function; it and the
    arguments are pickled. Raises InputError for more GPUs than there are.
    """
    if launcher_rank(gpus) is not None or gpus == 1:
        return work(*arguments)
    if torch.cuda.is_available() and gpus > torch.cuda.device_count():
        raise InputError(f"--gpus {gpus} was given, and PyTorch sees {torch.cuda.device_count()}")
    result: Result = launch(gpus, _as_rank, on_cpu(config), work, *arguments, orderly=True)
    return result


def _as_rank(rank: Rank, host: bool, work: Callable[..., Result], *arguments: Any) -> Result:
    device = torch.device("cpu") if host else torch.device("cuda", rank.local)
    threads = max(1, torch.get_num_threads() // rank.world) if host else torch.get_num_threads()
    torch.set_num_threads(threads)
    numbers = {"RANK": rank.number, "LOCAL_RANK": rank.local, "WORLD_SIZE": rank.world, "LOCAL_WORLD_SIZE": rank.world}
    # accelerate reads these, and sets the threads itself unless a number stands there.
    os.environ |= {name: str(number) for name, number in ({"OMP_NUM_THREADS": threads} | numbers).items()}
    with process_group(rank, device, PROCESS_TIMEOUT):
        return work(*arguments)
