"""The memory layout of convolutions: channels innermost, which GPUs (and CPUs) convolve faster."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(network: nn.Module) -> None:
    """Store the weights of 2D and 3D convolutions channels-last, in place; activations follow. Results change by rounding.

    Does nothing where they are stored so already. Saving writes row-major tensors all the same.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def channels_last_on_gpu(network: nn.Module, device: torch.device) -> None:
    """`channels_last` for a network that runs on a CUDA `device`, where its weights may come to only when it is called."""
    if device.type == "cuda":
        channels_last(network)
