"""What a device can, as far as kernels need to know it."""

from __future__ import annotations

import torch

FP8_CAPABILITY = (8, 9)


def has_fp8(device: torch.device) -> bool:
    """Whether `device` knows float8: CUDA from compute capability 8.9 on. What is no CUDA device emulates it."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= FP8_CAPABILITY
