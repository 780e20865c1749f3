"""Muon (Jordan et al. 2024) for many small matrices and convolutions, orthogonalised in one batched product per shape.

A convolution's weight [out, in, ...] counts as a matrix [out, in * taps].
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from phonofilm.training.loop.precision import has_fast_bfloat16

Coefficients = tuple[float, float, float]
NEWTON_SCHULZ: Coefficients = (3.4445, -4.7750, 2.0315)
STEPS, EPS = 5, 1e-7


def orthogonalise(
    stack: Tensor, coefficients: Coefficients = NEWTON_SCHULZ, steps: int = STEPS, eps: float = EPS
) -> Tensor:
    """Matrices with the same singular vectors whose singular values are all near 1 (0.7 to 1.2), by Newton-Schulz steps.

    [k,rows,columns] -> the same, float32; zeros stay zeros. In bfloat16 where that is fast, which is exact enough.
    """
    a, b, c = coefficients
    x = stack.bfloat16() if has_fast_bfloat16(stack.device) else stack.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


class BatchedMuon(torch.optim.Optimizer):
    """Same update, settings and state as `torch.optim.Muon` (its "original" rate adjustment), several times faster.

    `params`: parameters of two or more dimensions, or groups of them.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        settings = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": True,
            "ns_coefficients": NEWTON_SCHULZ,
            "eps": EPS,
            "ns_steps": STEPS,
        }
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._step_shape(group, shape, parameters)

    def _step_shape(self, group: dict[str, Any], shape: torch.Size, parameters: list[Tensor]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        direction = torch.stack(momenta)
        if group["nesterov"]:
            direction = torch.stack(gradients).lerp(direction, group["momentum"])
        matrices = direction.flatten(2)
        update = orthogonalise(matrices, group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * math.sqrt(max(1.0, matrices.shape[1] / matrices.shape[2]))
        torch._foreach_add_(parameters, list(update.view(-1, *shape).unbind()), alpha=-rate)
