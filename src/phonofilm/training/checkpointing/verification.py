"""What makes a checkpoint of training count: it reads back as it was written, it is finite, and it holds what is trained."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from phonofilm.errors import CheckpointError
from phonofilm.training.checkpointing.digest import digest


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file and read it back. Raises CheckpointError when it differs from memory."""
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(on_host, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    if digest(load_file(path)) != digest(on_host):
        raise CheckpointError(f"{path.name} reads back differently from what was written; is the disk full or failing?")


def refuse_values_not_finite(step: int, weights: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError for a weight with NaN or infinite values: a run does not go on from there."""
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"refusing to save update {step}: {name} holds values that are not finite")


def refuse_other_parameters(path: Path, saved: Collection[str], trained: Collection[str]) -> None:
    """Raises CheckpointError when a checkpoint does not hold the very parameters that are trained now."""
    if set(saved) != set(trained):
        raise CheckpointError(f"{path} trains other parameters than this run; expected {len(trained)}")
