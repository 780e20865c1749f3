"""Writing a LoRA in our layout or another's: to a temporary name, read back and compared, then renamed."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Adapter, LoraFile, check_numbers, check_trained, most_common
from phonofilm.lora.ours import ALPHAS_KEY, COMPONENT_KEY, folded, header_of, said_by, tensors_of
from phonofilm.lora.reading import read_lora
from phonofilm.lora.sources import ORIGINAL_CONFIG, ORIGINAL_WEIGHTS, PEFT_CONFIG, PEFT_WEIGHTS

logger = logging.getLogger(__name__)

COMFYUI_NAMES = {
    "video_dit": "high_noise",
    "video_dit_2": "low_noise",
    "audio_dit": "audio",
    "dual_tower_bridge": "bridge",
}


def save_lora(lora: LoraFile, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes our own layout, one .safetensors. Raises InputError and CheckpointError as `write_checked`."""
    target = Path(path)
    if target.suffix != ".safetensors":
        raise InputError(f"{target} should end in .safetensors")

    def write(temporary: Path) -> None:
        tensors: dict[str, Tensor] = {}
        for component, adapters in lora.adapters.items():
            tensors |= tensors_of(adapters, f"{component}.", ".lora_A.weight", ".lora_B.weight")
        _save(tensors, temporary, header_of(lora))

    return write_checked(lora, target, write, overwrite)


def export_original(lora: LoraFile, folder: str | Path) -> Path:
    """Writes a folder that the original's inference reads: lora_weights.pt and lora_config.pt.

    The original knows one alpha and one rank for all layers; where a layer's alpha / rank differs, the difference is
    multiplied into its lora_B, and taken out again when the file is read here.
    """
    ranks = {f"{c}.{p}": float(a.rank) for c, p, a in lora.items()}
    alphas = {f"{c}.{p}": a.alpha for c, p, a in lora.items()}
    if not alphas or 0 in alphas.values():
        raise CheckpointError(f"{folder}: the original's layout holds no LoRA that is empty or has an alpha of 0")
    rank, alpha = most_common(ranks), most_common(alphas)
    config = {
        "rank": int(rank),
        "alpha": alpha,
        "target_modules": list(lora.adapters),
        ALPHAS_KEY: alphas,
        **said_by(lora),
    }

    def write(temporary: Path) -> None:
        temporary.mkdir()
        tensors: dict[str, Tensor] = {}
        for component, adapters in lora.adapters.items():
            scaled = {path: folded(adapter, alpha / rank) for path, adapter in adapters.items()}
            tensors |= tensors_of(scaled, f"{component}.", ".lora_A.weight", ".lora_B.weight")
        torch.save(tensors, temporary / ORIGINAL_WEIGHTS)
        torch.save(config, temporary / ORIGINAL_CONFIG)

    return write_checked(lora, Path(folder), write)


def export_peft(lora: LoraFile, folder: str | Path) -> Path:
    """Writes a folder with one PEFT adapter per component, each readable by `PeftModel.from_pretrained(component, ...)`."""

    def write(temporary: Path) -> None:
        temporary.mkdir()
        for component, adapters in lora.adapters.items():
            part = temporary / component
            part.mkdir()
            tensors = tensors_of(adapters, "base_model.model.", ".lora_A.weight", ".lora_B.weight")
            _save(tensors, part / PEFT_WEIGHTS, {COMPONENT_KEY: component, **said_by(lora)})
            text = json.dumps(peft_config(adapters), indent=2)
            (part / PEFT_CONFIG).write_text(text + "\n", encoding="utf-8")

    return write_checked(lora, Path(folder), write)


def peft_config(adapters: Mapping[str, Adapter]) -> dict[str, object]:
    """adapter_config.json of one component: the rank and alpha most layers have, and patterns for the others."""
    ranks = {path: adapter.rank for path, adapter in adapters.items()}
    alphas = {path: adapter.alpha for path, adapter in adapters.items()}
    rank, alpha = int(most_common(ranks)), most_common(alphas)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(adapters),
        "rank_pattern": {path: value for path, value in ranks.items() if value != rank},
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
    }


def export_comfyui(lora: LoraFile, folder: str | Path) -> Path:
    """Writes a folder with one file per component: high_noise, low_noise, audio, bridge (.safetensors)."""

    def write(temporary: Path) -> None:
        temporary.mkdir()
        for component, adapters in lora.adapters.items():
            tensors = tensors_of(adapters, "diffusion_model.", ".lora_down.weight", ".lora_up.weight")
            tensors |= {f"diffusion_model.{path}.alpha": _number(a.alpha) for path, a in adapters.items()}
            header = {COMPONENT_KEY: component, **said_by(lora)}
            _save(tensors, temporary / f"{COMFYUI_NAMES[component]}.safetensors", header)

    return write_checked(lora, Path(folder), write)


def write_checked(lora: LoraFile, target: Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Has `write` make a file or folder beside `target`, reads it back, compares, and only then renames it.

    Raises InputError when `target` exists and `overwrite` is off, is a folder, or cannot be written; CheckpointError when
    the LoRA is empty, holds NaN, has an untrained component (every lora_B zero), or does not come back as it was.
    """
    check_numbers(lora, f"the LoRA for {target}")
    check_trained(lora, f"the LoRA for {target}")
    if target.is_dir() or (target.exists() and not overwrite):
        way = "choose another name" if target.is_dir() else "choose another name or allow overwriting"
        raise InputError(f"{target} exists already; {way}")
    temporary = target.with_name(f".{secrets.token_hex(6)}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if not _came_back(lora, read_lora(temporary)):
            raise CheckpointError(
                f"{target} was not kept: what was written does not read back as it was; is the disk full?"
            )
        _sync(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error}") from error
    finally:
        _remove(temporary)
    logger.info("%s: %d adapters written and read back", target, sum(1 for _ in lora.items()))
    return target


def _came_back(lora: LoraFile, read: LoraFile) -> bool:
    """Whether the same adapters came back, in every bit but the rounding of an up matrix folded for the original."""
    mine = {(c, p): a for c, p, a in lora.items()}
    theirs = {(c, p): a for c, p, a in read.items()}
    return (
        mine.keys() == theirs.keys()
        and dict(lora.metadata) == dict(read.metadata)
        and all(_same(adapter, theirs[key]) for key, adapter in mine.items())
    )


def _same(one: Adapter, other: Adapter) -> bool:
    if one.equals(other):
        return True
    error = (one.up.float() - other.up.float()).abs().max()
    near = error <= 4 * torch.finfo(one.up.dtype).eps * one.up.float().abs().max()
    return one.alpha == other.alpha and torch.equal(one.down, other.down) and bool(near)


def _save(tensors: Mapping[str, Tensor], path: Path, header: Mapping[str, str]) -> None:
    # A copy of each: tensors that share memory are refused by the format.
    copies = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    save_file(copies, path, {**header})
    path.chmod(0o644)  # safetensors makes files that only their owner can read; a LoRA is made to be passed on


def _number(value: float) -> Tensor:
    """A scalar tensor, in float32 as other tools write it unless that would round it."""
    single = torch.tensor(value, dtype=torch.float32)
    return single if single.item() == value else torch.tensor(value, dtype=torch.float64)


def _sync(path: Path) -> None:
    """Force the bytes to the disk, so that a crash after the rename cannot leave an empty file under the final name."""
    for part in [*path.rglob("*"), path] if path.is_dir() else [path]:
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
