"""Helpers for tests of checkpoint folders: copies of the golden one to break, and safetensors files to rewrite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import writable_copy

from phonofilm.errors import CheckpointError
from phonofilm.models.health import health
from phonofilm.models.layout import read_layout

GOLDEN = Path(__file__).parents[1] / "goldens" / "basic" / "checkpoint"
WEIGHTS = "diffusion_pytorch_model.safetensors"

State = dict[str, torch.Tensor]


def copy_golden(folder: Path) -> Path:
    """A checkpoint of our own to break, at folder/checkpoint."""
    return writable_copy(GOLDEN, folder / "checkpoint")


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def edit_weights(path: Path, edit: Callable[[State], Any]) -> None:
    state = load_file(path)
    edit(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)


def split_weights(folder: Path, stem: str, shards: int) -> None:
    """Rewrites a component's single weight file as `shards` files and an index."""
    state = load_file(folder / f"{stem}.safetensors")
    keys = sorted(state)
    weight_map = {}
    for number in range(shards):
        name = f"{stem}-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = keys[number::shards]
        save_file({key: state[key] for key in part}, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / f"{stem}.safetensors").unlink()
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def with_weight_norm(state: State, suffixes: tuple[str, str]) -> State:
    """Every convolution's weight split into a magnitude per output slice and a direction of another length."""
    split: State = {}
    for key, tensor in state.items():
        if key.endswith(".weight") and tensor.ndim == 3 and not key.startswith(("quant_conv", "post_quant_conv")):
            stem = key.removesuffix(".weight")
            split[stem + suffixes[0]] = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
            split[stem + suffixes[1]] = tensor * 3.0
        else:
            split[key] = tensor
    return split


def refused(root: Path, message: str) -> None:
    """The layout is refused with `message`, says what to run, and health reports it too."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read_layout(root)
    assert f"phonofilm models verify {root}" in str(caught.value)
    errors = [finding.message for finding in health(root) if finding.severity == "error"]
    assert any(re.search(message, error) for error in errors), errors


def weights_of(root: Path, name: str) -> State:
    """All tensors of a component as its files have them."""
    return {
        key: value for file in sorted((root / name).glob("*.safetensors")) for key, value in load_file(file).items()
    }
