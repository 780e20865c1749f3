"""Which kernels run what is neither a matrix product nor attention: PyTorch's, one operation after the other, or fused ones."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from phonofilm.errors import InputError

KERNELS = ("auto", "eager", "triton")
_chosen = "eager"


def choose_kernels(name: str, device: torch.device) -> str:
    """ "eager" or "triton" for one of KERNELS on `device`; auto takes Triton on CUDA where it is installed.

    Raises InputError for an unknown name, and for Triton where it cannot run.
    """
    if name not in KERNELS:
        raise InputError(f"kernels {name!r} are unknown; use one of {', '.join(KERNELS)}")
    installed = importlib.util.find_spec("triton") is not None
    if name == "auto":
        return "triton" if device.type == "cuda" and installed else "eager"
    if name == "triton" and not installed:
        raise InputError("kernels triton need the package triton; install phonofilm[kernels] or use --kernels eager")
    if name == "triton" and device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise InputError(f"kernels triton run on CUDA, and the device is {device}; use --kernels eager or auto")
    return name


@contextmanager
def kernels(name: str) -> Iterator[None]:
    """`name` ("eager" or "triton") in force for every network of this process."""
    global _chosen
    before, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = before


def fused() -> bool:
    """Whether to use the fused kernels here and now. They have no backward: while gradients are recorded the answer is no."""
    return _chosen == "triton" and not torch.is_grad_enabled()
