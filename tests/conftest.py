"""Shared by all tests: one thread per worker (two workers share two cores), and the golden cases."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when triton is first imported, which torch does: kernels run in its interpreter. For a GPU's own set it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
from safetensors.torch import load_file

torch.set_num_threads(1)

GOLDENS = Path(__file__).parent / "goldens"


@dataclass(frozen=True)
class Golden:
    """One case made by the original code: a checkpoint folder, its meta.json and its tensors."""

    checkpoint: Path
    meta: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    first_frame: Path

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]


def load_golden(name: str) -> Golden:
    folder = GOLDENS / name
    return Golden(
        checkpoint=folder / "checkpoint",
        meta=json.loads((folder / "meta.json").read_text()),
        tensors=load_file(folder / "golden.safetensors"),
        first_frame=folder / "first_frame.png",
    )


@pytest.fixture(scope="session", params=["basic", "variant"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


@pytest.fixture(scope="session")
def basic() -> Golden:
    return load_golden("basic")


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value of the reference."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} != {tuple(theirs.shape)}"
    return float((ours - theirs).abs().max() / theirs.abs().max())
