"""Weights that depend on a tensor's name and shape alone: the same in our networks and in those of others, in any order.

The numbers that tests compare with were made once, by giving these weights to the published implementations.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn


def seeded_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers, scaled so that activations neither vanish nor grow: scales near 1, variances positive."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if len(shape) <= 1:
        return 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
    return noise * math.sqrt(2 / math.prod(shape[1:]))


def fill_seeded(module: nn.Module) -> nn.Module:
    """The module in eval mode with `seeded_tensor` in every tensor of its state dict."""
    state = module.state_dict()
    filled = {name: seeded_tensor(name, tuple(tensor.shape)).to(tensor.dtype) for name, tensor in state.items()}
    module.load_state_dict(filled, assign=True)
    return module.eval().requires_grad_(False)


def seeded_input(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
