"""Muon for convolution weights, AdamW for everything else: the two optimizers small autoencoders learn fastest with.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest orthogonal matrix, found with a few
Newton-Schulz steps. A convolution weight [out, in, ...] counts as a matrix [out, in * taps].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for parameters of two or more dimensions."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                nesterov = p.grad.lerp(buffer, group["momentum"])
                update = orthogonalise(nesterov.flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view(p.shape), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix of the same shape whose singular values are all near 1 (0.7 to 1.2), by Newton-Schulz iteration.

    A zero matrix stays zero.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def split_parameters(model: nn.Module, plain: tuple[str, ...] = ()) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(for Muon, for AdamW): convolution and linear weights, and everything else plus the weights named in `plain`."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        hidden = name.endswith("weight") and parameter.ndim >= 2 and not name.startswith(plain)
        (matrices if hidden else rest).append(parameter)
    return matrices, rest
