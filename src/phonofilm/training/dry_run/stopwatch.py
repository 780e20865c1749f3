"""Seconds of what runs on a device."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

MEASUREMENTS = 3


@dataclass(frozen=True)
class Stopwatch:
    """Seconds by a clock, once the device has finished its queue."""

    device: torch.device
    clock: Callable[[], float]

    def __call__(self, call: Callable[[], object], repeats: int = MEASUREMENTS) -> float:
        """The median of a few calls."""
        return statistics.median(self._once(call) for _ in range(repeats))

    def _once(self, call: Callable[[], object]) -> float:
        began = self.clock()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock() - began
