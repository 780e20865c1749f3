"""A running average of the trained weights: smoother than the weights themselves, and what is validated and shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from phonofilm.parallel.sharded_tensors import local_part


class WeightAverage:
    """Exponential average of `parameters`, float32. The decay is ramped up, so that early weights are soon forgotten."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = parameters
        self._averages = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Fold in the weights after update `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [local_part(parameter).float() for parameter in self._parameters.values()]
        torch._foreach_lerp_([local_part(average) for average in self._averages.values()], weights, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._averages)


@contextmanager
def swapped_weights(parameters: dict[str, nn.Parameter], weights: dict[str, Tensor] | None) -> Iterator[None]:
    """Run a block with other weights (or the same, if None); afterwards every weight is back bit for bit, whatever was done."""
    with torch.no_grad():
        kept = {name: local_part(parameter).clone() for name, parameter in parameters.items()}
        for name, value in (weights or {}).items():
            local_part(parameters[name]).copy_(local_part(value))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                local_part(parameter).copy_(kept[name])
