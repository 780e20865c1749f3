"""LoRA files as they lie on disk: tensors, and what the file says beside them. What they mean is read in reading.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.pickles import load_pickle
from phonofilm.models.checkpoint_files import listed, read_json
from phonofilm.untrusted import FOLDER_FAULT, file_fault, parse_json, shown

ORIGINAL_WEIGHTS, ORIGINAL_CONFIG = "lora_weights.pt", "lora_config.pt"
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PICKLES = (".pt", ".pth", ".bin", ".ckpt")


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
    fault = file_fault(path)
    if fault is None:
        return [_open(path)]
    if fault != FOLDER_FAULT:
        raise InputError(
            f"there is no LoRA at {shown(path)}: {fault}; expected a .safetensors or .pt file, or a folder of them"
        )
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
    if path.suffix in PICKLES:
        return _open_pickle(path)
    raise InputError(f"{path} is no LoRA file; expected a name that ends in .safetensors or .pt")


def _open_safetensors(path: Path) -> LoraSource:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            header = dict(file.metadata() or {})
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors: {shown(error)}; copy or download it again"
        ) from error
    beside = path.parent / PEFT_CONFIG
    config = read_json(beside) if path.name == PEFT_WEIGHTS and beside.is_file() else _diffusers_config(header, path)
    return LoraSource(path, _as_floats(path, tensors), header, config)


def _diffusers_config(header: Mapping[str, str], path: Path) -> dict[str, Any]:
    """diffusers keeps PEFT's settings in the header, each with the module's name before it."""
    if "lora_adapter_metadata" not in header:
        return {}
    try:
        settings = parse_json(header["lora_adapter_metadata"])
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
    tensors = {str(key): tensor for key, tensor in state.items()}
    return LoraSource(path, _as_floats(path, tensors), {}, settings, low_resource)


def _as_floats(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of 8 bits widened to bfloat16, which holds them exactly: torch computes with few of them itself."""
    strange = [key for key, tensor in tensors.items() if not tensor.is_floating_point() and tensor.numel() != 1]
    if strange:
        raise CheckpointError(
            f"{path}: {shown(strange[0])} holds {tensors[strange[0]].dtype}; expected floating-point numbers"
        )
    return {
        key: tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
        for key, tensor in tensors.items()
    }
