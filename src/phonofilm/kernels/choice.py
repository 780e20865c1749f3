"""Which kernels run what is neither a matrix product nor attention: PyTorch's, one operation after the other, or fused ones.

The choice belongs to a network, like its training mode: two networks of one process may differ, in any threads.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from phonofilm.errors import InputError
from phonofilm.kernels import check

Kernels = Literal["eager", "triton"]
KERNELS = ("auto", "eager", "triton")
logger = logging.getLogger(__name__)


class FusibleModule(nn.Module):
    """A module that has a fused way of computing beside PyTorch's operations."""

    kernels: Kernels = "eager"

    @property
    def fused(self) -> bool:
        """Whether to use the fused kernels now. They have no backward: while gradients are recorded the answer is no."""
        return self.kernels == "triton" and not torch.is_grad_enabled()


def use_kernels(network: nn.Module, kernels: Kernels) -> None:
    """Let `network` and every module in it compute with `kernels` from now on."""
    for module in network.modules():
        if isinstance(module, FusibleModule):
            module.kernels = kernels


def choose_kernels(name: str, device: torch.device) -> Kernels:
    """ "eager" or "triton" for one of KERNELS on `device`; auto takes Triton on CUDA where it is installed and right.

    Right: a few rows come out as from PyTorch's operations. Where they do not, auto says so once and stays eager.

    Raises InputError for an unknown name, and for Triton where it cannot run or is wrong.
    """
    if name not in KERNELS:
        raise InputError(f"kernels {name!r} are unknown; use one of {', '.join(KERNELS)}")
    installed = importlib.util.find_spec("triton") is not None
    if name == "eager" or (name == "auto" and not (device.type == "cuda" and installed)):
        return "eager"
    if not installed:
        raise InputError("kernels triton need the package triton; install phonofilm[kernels] or use kernels=eager")
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise InputError(f"kernels triton run on CUDA, and the device is {device}; use kernels=eager or auto")
    wrong = check.complaint(device)
    if wrong is None:
        return "triton"
    if name == "triton":
        raise InputError(f"kernels triton are wrong on {device}: {wrong}; use kernels=eager or auto")
    _warn_once(f"kernels triton are not used: on {device} {wrong}. PyTorch's operations run instead.")
    return "eager"


@lru_cache
def _warn_once(message: str) -> None:
    logger.warning(message)
