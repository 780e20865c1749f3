"""Matrix products in bfloat16 around weights, activations and attention in float32: the fast mix on CPUs that have it.

Autocast is no help there: it takes attention and norms along, and those are slower in bfloat16 on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from phonofilm.training.config.training_config import Precision

INSIDE_A_BLOCK = re.compile(r"(^|\.)(blocks?|\w+_conditioners)\.\d+\.")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 matrices are several times faster than float32's on `device`."""
    if device.type != "cpu":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(wanted: Precision, device: torch.device) -> Precision:
    """What `auto` means on `device`; every other precision is itself."""
    if wanted != "auto":
        return wanted
    if device.type != "cpu":
        return "bf16"
    return "bf16-products" if has_fast_bfloat16(device) else "no"


class _RoundedLinear(torch.autograd.Function):
    """x W^T + b with x, W and the gradient rounded to bfloat16 for the three products; float32 in, float32 out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rounded, rounded_weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(rounded, rounded_weight)
        ctx.has_bias = bias is not None
        product = nn.functional.linear(rounded, rounded_weight).float()
        return product if bias is None else product + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)
        rounded = gradient.bfloat16()
        need_x, need_weight, need_bias = ctx.needs_input_grad
        to_x = (rounded @ weight).float().view(x.shape) if need_x else None
        to_weight = (rounded.T @ x.flatten(0, -2)).float() if need_weight else None
        return to_x, to_weight, gradient.sum(0) if ctx.has_bias and need_bias else None


@contextmanager
def bfloat16_products(model: nn.Module) -> Iterator[None]:
    """While open, the linear layers inside the model's blocks multiply in bfloat16. Weights stay as they are."""
    changed = [m for name, m in model.named_modules() if type(m) is nn.Linear and INSIDE_A_BLOCK.search(f"{name}.")]
    for linear in changed:
        linear.forward = _rounded(linear)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for linear in changed:
            del linear.forward


def _rounded(linear: nn.Linear) -> Any:
    def forward(x: Tensor) -> Tensor:
        result: Tensor = _RoundedLinear.apply(x, linear.weight, linear.bias)  # type: ignore[no-untyped-call]
        return result

    return forward
