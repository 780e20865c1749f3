"""One hash over everything a run is made of, to tell whether two runs are equal to the last bit."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor


def digest(value: Any) -> str:
    """SHA-256 over nested dicts, lists, numbers and tensors: equal exactly when all of them are, bit for bit."""
    hasher = hashlib.sha256()
    _feed(hasher, value)
    return hasher.hexdigest()


def _feed(hasher: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        hasher.update(f"{value.dtype}{tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            hasher.update(f"{key}=".encode())
            _feed(hasher, value[key])
    elif isinstance(value, list | tuple):
        hasher.update(f"[{len(value)}]".encode())
        for item in value:
            _feed(hasher, item)
    else:
        hasher.update(repr(value).encode())
