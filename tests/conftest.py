"""Shared by all tests: one thread per worker (two workers share two cores), kernels in Triton's interpreter, golden cases.

`pytest -m gpu` is for a machine with a card and little else: it looks at tests/gpu only, whose modules need neither PyAV nor
the package installed, and kernels are compiled there.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

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


def pytest_configure(config: pytest.Config) -> None:
    """Called before a module of tests is imported: triton, which torch imports, reads its variable once."""
    if not on_a_gpu(config):
        os.environ.setdefault("TRITON_INTERPRET", "1")
        # For the processes that tests start, too: two ranks with two threads each on two cores take two and a half times as long.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        build_commands_once()
    import torch

    torch.set_num_threads(1)


def build_commands_once() -> None:
    """Typer's runner builds the whole command line anew for every call, which is a sixth of a tiny clip's time."""
    import typer.testing
    from typer.main import get_command

    typer.testing._get_command = functools.cache(get_command)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """On a GPU, every module outside tests/gpu: it would import what is not there."""
    outside = collection_path.suffix == ".py" and "gpu" not in collection_path.parts[-2:-1]
    return True if outside and on_a_gpu(config) else None


def on_a_gpu(config: pytest.Config) -> bool:
    """Whether the tests that need a GPU were asked for, and no others."""
    return bool(config.option.markexpr == "gpu")


def writable_copy(source: Path, target: str | Path) -> Path:
    """A copy of a folder of the repository that can be changed, also where the checkout itself may only be read."""
    copy = Path(shutil.copytree(source, target, copy_function=shutil.copyfile))
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return copy


def load_golden(name: str) -> Golden:
    from safetensors.torch import load_file

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
