"""What several processes that train one model must agree on: how they find each other, the time, requests to save or stop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import AutocastKwargs
from torch import distributed

from phonofilm.training.checkpointing.run_folder import SAVE, STOP
from phonofilm.training.config.training_config import LoopConfig
from phonofilm.training.loop.signals import StopRequest

# How long a process waits for the others, for example while the first one encodes all clips or writes 60 GB.
PROCESS_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class StopRequests:
    """What all processes know before the next update: seconds of training so far, and whether to save or stop."""

    elapsed: float
    save: bool
    stop: bool


def on_cpu(config: LoopConfig) -> bool:
    """Whether accelerate must be given cpu=True. Otherwise processes on a CPU do not find each other."""
    return config.device == "cpu" or not torch.accelerator.is_available()


def join_processes(config: LoopConfig) -> PartialState:
    """This process among those that train together."""
    return PartialState(cpu=on_cpu(config), timeout=PROCESS_TIMEOUT)


def make_accelerator(config: LoopConfig, mixed_precision: str) -> Accelerator:
    """This process's device, autocast and gradient scaler."""
    # A cache would keep what is cast of every layer until the forward ends, of layers that are gone by then too.
    uncached = AutocastKwargs(cache_enabled=False)
    return Accelerator(cpu=on_cpu(config), mixed_precision=mixed_precision, kwargs_handlers=[uncached])


def agree_on_requests(accelerator: Accelerator, folder: Path, elapsed: float, stop: StopRequest) -> StopRequests:
    """The main process's clock, and whether a signal came to any process or a file `save` or `stop` lies in the folder."""
    main = accelerator.is_main_process
    requested = [elapsed if main else 0.0, main and (folder / SAVE).exists(), main and (folder / STOP).exists()]
    requested[2] = requested[2] or stop.requested
    if accelerator.num_processes > 1:
        shared = torch.tensor([float(one) for one in requested], dtype=torch.float64, device=accelerator.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        requested = shared.tolist()
    return StopRequests(float(requested[0]), bool(requested[1]), bool(requested[2]))


def clear_requests(accelerator: Accelerator, folder: Path) -> None:
    """Remove the files whose request was met, so that they can be made again."""
    if accelerator.is_main_process:
        for name in (SAVE, STOP):
            (folder / name).unlink(missing_ok=True)
