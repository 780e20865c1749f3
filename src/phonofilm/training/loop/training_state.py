"""How far a run is, for whoever shows it, and a block that leaves no trace in the training it interrupts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from phonofilm.parallel.sharded_tensors import local_part
from phonofilm.training.loop.ema import swapped_weights
from phonofilm.units import format_duration


@dataclass(frozen=True)
class TrainingProgress:
    """A run after an update.

    Attributes:
        step, total: updates done, and in all (None: the run ends by time alone).
        done: share of the run, 0 to 1, by updates or time, whichever ends it sooner.
        seconds_per_update: recent mean, without validation and samples. seconds_left: with them.
        losses: latest mean per modality, empty before the first; fresh: they are of this very update's interval.
    """

    step: int
    total: int | None
    done: float
    seconds_per_update: float
    seconds_left: float
    losses: Mapping[str, float] = field(default_factory=dict)
    fresh: bool = False

    @property
    def summary(self) -> str:
        """Losses, seconds per update, time left."""
        losses = "".join(f"{name} {value:.4f}  " for name, value in self.losses.items())
        return f"{losses}{self.seconds_per_update:.3g} s/step  {format_duration(self.seconds_left)} left"


ProgressCallback = Callable[[TrainingProgress], None]


class UpdatePace:
    """Seconds per update: a mean that forgets, so that the slow first ones do not count for ever."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._count = 0

    def add(self, seconds: float) -> None:
        self._count += 1
        self.seconds += (seconds - self.seconds) / min(self._count, 50)


@contextmanager
def undisturbed(
    model: nn.Module, trained: dict[str, nn.Parameter], weights: dict[str, Tensor] | None, device: torch.device
) -> Iterator[None]:
    """A block without gradients in which `trained` hold `weights` (their own, if None).

    Afterwards trained weights, gradients, module modes and the random state of Python, NumPy and torch are what they were,
    bit for bit, however the block ended.
    """
    modes = {module: module.training for module in model.modules()}
    gradients = {p: None if p.grad is None else (p.grad, local_part(p.grad).clone()) for p in trained.values()}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what others may have drawn from
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), swapped_weights(trained, weights), torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, kept in gradients.items():
            parameter.grad = None if kept is None else kept[0]
            if kept is not None:
                local_part(kept[0]).copy_(kept[1])
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if device.type == "cuda":
            torch.cuda.empty_cache()
