"""LoRA files as they lie on disk: tensors, and what the file says beside them. What they mean is read in reading.py."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError
from phonofilm.models.checkpoint_files import listed, read_json

ORIGINAL_WEIGHTS, ORIGINAL_CONFIG = "lora_weights.pt", "lora_config.pt"
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, eq=False)
class LoraSource:
    """One file: its tensors, the strings of its safetensors header, the settings beside or inside it."""

    path: Path
    tensors: Mapping[str, Tensor]
    header: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    low_resource: bool = False


def open_sources(path: Path) -> list[LoraSource]:
    """The LoRA files at `path`: a file, or a folder of them.

    Raises InputError when there is nothing of the kind, CheckpointError when a file is damaged or could run code.
    """
    if path.is_file():
        return [_open(path)]
    if not path.is_dir():
        raise InputError(f"there is no LoRA at {path}; expected a .safetensors or .pt file, or a folder of them")
    if (path / ORIGINAL_WEIGHTS).is_file():
        return [_open(path / ORIGINAL_WEIGHTS)]
    files = sorted([*path.glob("*.safetensors"), *path.glob(f"*/{PEFT_WEIGHTS}")])
    if not files:
        raise InputError(
            f"{path} holds no LoRA; expected {ORIGINAL_WEIGHTS}, {PEFT_WEIGHTS} or other .safetensors files"
        )
    return [_open(file) for file in files]


def _open(path: Path) -> LoraSource:
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return _open_pickle(path)
    raise InputError(f"{path} is no LoRA file; expected a name that ends in .safetensors or .pt")


def _open_safetensors(path: Path) -> LoraSource:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            header = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}; copy or download it again") from error
    beside = path.parent / PEFT_CONFIG
    config = read_json(beside) if path.name == PEFT_WEIGHTS and beside.is_file() else _diffusers_config(header, path)
    return LoraSource(path, tensors, header, config)


def _diffusers_config(header: Mapping[str, str], path: Path) -> dict[str, Any]:
    """diffusers keeps PEFT's settings in the header, each with the module's name before it."""
    if "lora_adapter_metadata" not in header:
        return {}
    try:
        settings = json.loads(header["lora_adapter_metadata"])
        return {str(key).partition(".")[2] or str(key): value for key, value in settings.items()}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} has lora_adapter_metadata that is no JSON object: {error}") from error


def _open_pickle(path: Path) -> LoraSource:
    content = load_pickle(path)
    if "lora_state_dict" in content:
        state, config, low_resource = content["lora_state_dict"], content, True
    else:
        beside = path.with_name(ORIGINAL_CONFIG)
        state, config, low_resource = content, load_pickle(beside) if beside.is_file() else {}, False
    if not isinstance(state, dict) or (strange := [k for k, v in state.items() if not isinstance(v, Tensor)]):
        names = listed([str(k) for k in strange]) if isinstance(state, dict) else "no mapping"
        raise CheckpointError(f"{path} should hold tensors by name, but has {names}")
    settings = {key: value for key, value in config.items() if key != "lora_state_dict"}
    return LoraSource(path, {str(key): tensor for key, tensor in state.items()}, {}, settings, low_resource)


def load_pickle(path: Path) -> dict[str, Any]:
    """A .pt file that holds a dictionary of tensors and plain values. Raises CheckpointError for anything else.

    A pickle can run code as it is opened; torch's restricted reader knows tensors and plain values only, and what it
    does not know is refused.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} is refused: it is damaged, or a pickle with more in it than tensors, which could run code ({reason})"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    return content
