"""A LoRA in the layouts of other tools. Each is written whole, read back and compared (writing.py).

Layouts that keep no alpha of each layer get it multiplied into lora_B, and the alphas beside the tensors, by which it is
divided out again when the file is read here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Adapter, LoraFile, most_common
from phonofilm.lora.ours import ALPHAS_KEY, COMPONENT_KEY, folded, said_by, tensors_of
from phonofilm.lora.sources import ORIGINAL_CONFIG, ORIGINAL_WEIGHTS, PEFT_CONFIG, PEFT_WEIGHTS
from phonofilm.lora.tensor_names import KOHYA_PREFIX, VIDEOX_COMPONENTS, to_diffusers
from phonofilm.lora.writing import save_lora, save_lora_tensors, write_checked
from phonofilm.lora.zero_adapters import FILLERS_KEY, missing_wan_layers

FILE_NAMES = {
    "video_dit": "high_noise",
    "video_dit_2": "low_noise",
    "audio_dit": "audio",
    "dual_tower_bridge": "bridge",
}
VIDEOX_NAMES = {component: name for name, component in VIDEOX_COMPONENTS.items()}
A, B = ".lora_A.weight", ".lora_B.weight"
DOWN, UP = ".lora_down.weight", ".lora_up.weight"


def export_original(lora: LoraFile, folder: str | Path) -> Path:
    """A folder that the original's inference reads: lora_weights.pt and lora_config.pt."""
    tensors, config = _for_one_alpha(lora, str(folder), A, B)

    def write(temporary: Path) -> None:
        temporary.mkdir()
        torch.save(tensors, temporary / ORIGINAL_WEIGHTS)
        torch.save(config, temporary / ORIGINAL_CONFIG)

    return write_checked(lora, Path(folder), write)


def export_low_resource(lora: LoraFile, file: str | Path) -> Path:
    """The one .pt that the original's low-resource trainer writes."""
    target = Path(file)
    if target.suffix != ".pt":
        raise InputError(f"{target} should end in .pt")
    tensors, config = _for_one_alpha(lora, str(file), ".lora_A", ".lora_B")
    content = {"lora_state_dict": tensors, "dropout": 0.0, **config, "target_modules": layer_endings(lora)}
    return write_checked(lora, target, lambda temporary: torch.save(content, temporary))


def layer_endings(lora: LoraFile) -> list[str]:
    """The ends of the adapted layers' names (q, ffn.0), by which the low-resource trainer's injector finds its layers."""
    paths = {path for _, path, _ in lora.items()}
    return sorted({".".join(path.split(".")[-2 if path.rpartition(".")[2].isdigit() else -1 :]) for path in paths})


def _for_one_alpha(lora: LoraFile, target: str, down: str, up: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of the original, which knows one alpha and one rank for all layers."""
    ranks = {f"{c}.{p}": float(a.rank) for c, p, a in lora.items()}
    alphas = {f"{c}.{p}": a.alpha for c, p, a in lora.items()}
    _require_alphas(lora, target)
    rank, alpha = most_common(ranks), most_common(alphas)
    tensors: dict[str, Tensor] = {}
    for component, adapters in lora.adapters.items():
        scaled = {path: folded(adapter, alpha / rank) for path, adapter in adapters.items()}
        tensors |= tensors_of(scaled, f"{component}.", down, up)
    settings = {"rank": int(rank), "alpha": alpha, "target_modules": list(lora.adapters), ALPHAS_KEY: alphas}
    return tensors, settings | said_by(lora)


def _require_alphas(lora: LoraFile, target: str) -> None:
    alphas = [adapter.alpha for _, _, adapter in lora.items()]
    if not alphas or 0 in alphas:
        raise CheckpointError(f"{target}: this layout holds no LoRA that is empty or has an alpha of 0")


def export_peft(lora: LoraFile, folder: str | Path) -> Path:
    """A folder with one PEFT adapter per part, each readable by `PeftModel.from_pretrained(part, ...)`."""

    def write(temporary: Path) -> None:
        temporary.mkdir()
        for component, adapters in lora.adapters.items():
            part = temporary / component
            part.mkdir()
            tensors = tensors_of(adapters, "base_model.model.", A, B)
            save_lora_tensors(tensors, part / PEFT_WEIGHTS, {COMPONENT_KEY: component, **said_by(lora)})
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


@dataclass(frozen=True)
class PartFiles:
    """A layout of one safetensors per part of the model.

    name: a part's file, without suffix. layer: a layer's name in the keys. down, up: what follows it. alpha: of each layer,
    "key" in a tensor of its own, "header" as diffusers has it, or "folded" where the layout has none. fill: adds layers
    without effect that the layout's readers expect; they are named in the header and left out when the file is read here.
    """

    name: Callable[[LoraFile, str], str]
    layer: Callable[[str], str]
    down: str = A
    up: str = B
    alpha: str = "key"
    fill: Callable[[str, Mapping[str, Adapter]], Mapping[str, Adapter]] = lambda component, adapters: {}

    def export(self, lora: LoraFile, folder: str | Path) -> Path:
        """Write a folder of this layout."""

        def write(temporary: Path) -> None:
            temporary.mkdir()
            for component, adapters in lora.adapters.items():
                added = self.fill(component, adapters)
                renamed = {self.layer(path): adapter for path, adapter in {**adapters, **added}.items()}
                tensors, header = self._part(component, renamed, adapters)
                if added:
                    header = {**header, FILLERS_KEY: json.dumps([self.layer(path) for path in added])}
                file = temporary / f"{self.name(lora, component)}.safetensors"
                save_lora_tensors(tensors, file, {COMPONENT_KEY: component, **header, **said_by(lora)})

        if self.alpha == "folded":
            _require_alphas(lora, str(folder))
        return write_checked(lora, Path(folder), write)

    def _part(
        self, component: str, renamed: Mapping[str, Adapter], adapters: Mapping[str, Adapter]
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and header of one file. `renamed`: the adapters by the layout's names."""
        if self.alpha == "folded":
            scaled = {layer: folded(adapter, 1.0) for layer, adapter in renamed.items()}
            alphas = {f"{component}.{path}": adapter.alpha for path, adapter in adapters.items()}
            return tensors_of(scaled, "", self.down, self.up), {ALPHAS_KEY: json.dumps(alphas)}
        tensors = tensors_of(renamed, "", self.down, self.up)
        if self.alpha == "header":
            plain = {layer.removeprefix("transformer."): adapter for layer, adapter in renamed.items()}
            settings = {f"transformer.{key}": value for key, value in peft_config(plain).items()}
            return tensors, {"lora_adapter_metadata": json.dumps(settings)}
        return tensors | {f"{layer}.alpha": _number(adapter.alpha) for layer, adapter in renamed.items()}, {}


def _number(value: float) -> Tensor:
    """A scalar tensor, in float32 as other tools write it unless that would round it."""
    single = torch.tensor(value, dtype=torch.float32)
    return single if single.item() == value else torch.tensor(value, dtype=torch.float64)


def _file_name(lora: LoraFile, component: str) -> str:
    return FILE_NAMES[component]


def _videox_name(lora: LoraFile, component: str) -> str:
    steps = lora.metadata.get("steps", "0")
    return f"checkpoint-{steps if steps.isdigit() else 0}-{VIDEOX_NAMES[component]}"


export_comfyui = PartFiles(_file_name, lambda path: f"diffusion_model.{path}", DOWN, UP).export
export_kohya = PartFiles(
    _file_name, lambda path: KOHYA_PREFIX + path.replace(".", "_"), DOWN, UP, fill=missing_wan_layers
).export
export_diffusers = PartFiles(_file_name, lambda path: f"transformer.{to_diffusers(path)}", alpha="header").export
export_diffsynth = PartFiles(
    _file_name, lambda path: path, ".lora_A.default.weight", ".lora_B.default.weight", "folded"
).export
export_videox_fun = PartFiles(_videox_name, lambda path: f"base_model.model.{path}", alpha="folded").export

EXPORTS: Mapping[str, Callable[[LoraFile, str | Path], Path]] = {
    "original": export_original,
    "low-resource": export_low_resource,
    "peft": export_peft,
    "diffusers": export_diffusers,
    "comfyui": export_comfyui,
    "kohya": export_kohya,
    "diffsynth": export_diffsynth,
    "videox-fun": export_videox_fun,
}


def check_layout(name: str, overwrite: bool) -> None:
    """Raises InputError for a layout that is not written, or that would be replaced."""
    if name != "phonofilm" and name not in EXPORTS:
        raise InputError(f"--to {name} is no layout that is written; expected phonofilm, {', '.join(EXPORTS)}")
    if overwrite and name != "phonofilm":
        raise InputError("--overwrite goes with --to phonofilm; what other tools read is never replaced")


def write_lora(lora: LoraFile, layout: str, output: Path, overwrite: bool) -> Path:
    """Write a LoRA in the named layout, ours or another tool's."""
    return save_lora(lora, output, overwrite=overwrite) if layout == "phonofilm" else EXPORTS[layout](lora, output)
