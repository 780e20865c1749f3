"""What several processes that train one model must agree on: gradients, the time, and whether somebody asked to stop.

Gradients are averaged here and not by a wrapper around the model: parameters without a gradient (the expert that rests, a
bridge that is cut in one process's clips only) and weights that wait on the host are no special cases that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, distributed, nn

from phonofilm.parallel.sharded_tensors import is_sharded
from phonofilm.training.config.training_config import LoopConfig
from phonofilm.training.loop.signals import StopRequest

# How long a process waits for the others: while the first encodes all clips, say, or writes a checkpoint of 60 GB.
PATIENCE = timedelta(hours=2)
CHUNK = 2**25  # numbers sent at once
SAVE, STOP = "save", "stop"


@dataclass(frozen=True)
class StopRequests:
    """What all processes know before the next update: seconds of training so far, and what was asked for."""

    elapsed: float
    save: bool
    stop: bool


def on_cpu(config: LoopConfig) -> bool:
    """Whether to tell accelerate that this is CPU training. Unless it is told, processes on a CPU do not find each other."""
    return config.device == "cpu" or not torch.accelerator.is_available()


def join_processes(config: LoopConfig) -> PartialState:
    """This process among those that train together."""
    return PartialState(cpu=on_cpu(config), timeout=PATIENCE)


def agree_on_requests(accelerator: Accelerator, folder: Path, elapsed: float, stop: StopRequest) -> StopRequests:
    """The main process's clock, and whether a signal came to any process or a file `save` or `stop` lies in the folder."""
    main = accelerator.is_main_process
    wishes = [elapsed if main else 0.0, main and (folder / SAVE).exists(), main and (folder / STOP).exists()]
    wishes[2] = wishes[2] or stop.requested
    if accelerator.num_processes > 1:
        shared = torch.tensor([float(wish) for wish in wishes], dtype=torch.float64, device=accelerator.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        wishes = shared.tolist()
    return StopRequests(float(wishes[0]), bool(wishes[1]), bool(wishes[2]))


def clear_requests(accelerator: Accelerator, folder: Path) -> None:
    """Take the files away whose wish was met, so that they can be put there again."""
    if accelerator.is_main_process:
        for name in (SAVE, STOP):
            (folder / name).unlink(missing_ok=True)


def average_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Put the mean over all processes into every gradient; one that only some processes have counts as 0 in the others.

    Gradients of weights that are cut are that already: FSDP makes them so, part by part.
    """
    if accelerator.num_processes == 1:
        return
    parameters = [parameter for parameter in parameters if not is_sharded(parameter)]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=accelerator.device)
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    gradients = []
    for parameter, somewhere in zip(parameters, there.tolist(), strict=True):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for chunk in _chunks(gradients):
        flat = torch.cat([gradient.flatten() for gradient in chunk])
        distributed.all_reduce(flat)
        flat /= accelerator.num_processes
        parts = flat.split([gradient.numel() for gradient in chunk])
        torch._foreach_copy_(chunk, [part.view_as(g) for part, g in zip(parts, chunk, strict=True)])


def _chunks(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    chunk: list[Tensor] = []
    for gradient in gradients:
        if chunk and (sum(g.numel() for g in chunk) + gradient.numel() > CHUNK or gradient.dtype != chunk[0].dtype):
            yield chunk
            chunk = []
        chunk.append(gradient)
    if chunk:
        yield chunk
