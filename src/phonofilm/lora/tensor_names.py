"""Names of tensors in LoRA files: the layers' tensors, the layout that their names show, and the way to module paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from phonofilm.lora.adapter import Layout
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.lora.tensor_roles import by_layer

KOHYA_PREFIX = "lora_unet_"
KEY_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "transformer_2.",
    "pipe.dit.",
)
VIDEOX_NAME = re.compile(r"checkpoint-\d+-(?P<component>[A-Za-z_0-9]+?)(-compatible_with_comfyui)?$")
# VideoX-Fun numbers the experts the other way round than MOVA.
VIDEOX_COMPONENTS = {
    "transformer": "video_dit_2",
    "transformer_2": "video_dit",
    "transformer_audio": "audio_dit",
    "dual_tower_bridge": "dual_tower_bridge",
}
# diffusers renames Wan's layers; here is what they are called in the towers, and the way back.
FROM_DIFFUSERS = (
    (re.compile(r"^(blocks\.\d+)\.attn1\.to_(q|k|v)$"), r"\1.self_attn.\2"),
    (re.compile(r"^(blocks\.\d+)\.attn1\.to_out\.0$"), r"\1.self_attn.o"),
    (re.compile(r"^(blocks\.\d+)\.attn2\.to_(q|k|v)$"), r"\1.cross_attn.\2"),
    (re.compile(r"^(blocks\.\d+)\.attn2\.to_out\.0$"), r"\1.cross_attn.o"),
    (re.compile(r"^(blocks\.\d+)\.ffn\.net\.0\.proj$"), r"\1.ffn.0"),
    (re.compile(r"^(blocks\.\d+)\.ffn\.net\.2$"), r"\1.ffn.2"),
    (re.compile(r"^condition_embedder\.text_embedder\.linear_1$"), "text_embedding.0"),
    (re.compile(r"^condition_embedder\.text_embedder\.linear_2$"), "text_embedding.2"),
    (re.compile(r"^condition_embedder\.time_embedder\.linear_1$"), "time_embedding.0"),
    (re.compile(r"^condition_embedder\.time_embedder\.linear_2$"), "time_embedding.2"),
    (re.compile(r"^condition_embedder\.time_proj$"), "time_projection.1"),
    (re.compile(r"^proj_out$"), "head.head"),
)

TO_DIFFUSERS = (
    (re.compile(r"^(blocks\.\d+)\.self_attn\.(q|k|v)$"), r"\1.attn1.to_\2"),
    (re.compile(r"^(blocks\.\d+)\.self_attn\.o$"), r"\1.attn1.to_out.0"),
    (re.compile(r"^(blocks\.\d+)\.cross_attn\.(q|k|v)$"), r"\1.attn2.to_\2"),
    (re.compile(r"^(blocks\.\d+)\.cross_attn\.o$"), r"\1.attn2.to_out.0"),
    (re.compile(r"^(blocks\.\d+)\.ffn\.0$"), r"\1.ffn.net.0.proj"),
    (re.compile(r"^(blocks\.\d+)\.ffn\.2$"), r"\1.ffn.net.2"),
    (re.compile(r"^text_embedding\.0$"), "condition_embedder.text_embedder.linear_1"),
    (re.compile(r"^text_embedding\.2$"), "condition_embedder.text_embedder.linear_2"),
    (re.compile(r"^time_embedding\.0$"), "condition_embedder.time_embedder.linear_1"),
    (re.compile(r"^time_embedding\.2$"), "condition_embedder.time_embedder.linear_2"),
    (re.compile(r"^time_projection\.1$"), "condition_embedder.time_proj"),
    (re.compile(r"^head\.head$"), "proj_out"),
)


@dataclass(frozen=True, eq=False)
class Parts:
    """The tensors of one layer as a file holds them."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: Tensor | None = None


def group(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Parts], list[str]]:
    """The tensors by layer, and the keys that belong to no adapter."""
    found, strange = by_layer(tensors)
    return {
        layer: Parts(roles.get("down"), roles.get("up"), roles.get("alpha")) for layer, roles in found.items()
    }, strange


def detect(keys: Collection[str], layers: Collection[str], stem: str) -> Layout:
    """The layout that keys, their layers and the file's name (without suffix) show; for files that do not say it."""
    if any(component_of_key(layer) for layer in layers):
        return Layout.ORIGINAL
    if (match := VIDEOX_NAME.match(stem)) and match["component"] in VIDEOX_COMPONENTS:
        return Layout.VIDEOX_FUN
    if any(layer.startswith(KOHYA_PREFIX) for layer in layers):
        return Layout.KOHYA
    if any(layer.startswith(("diffusion_model.", "model.diffusion_model.")) for layer in layers):
        return Layout.COMFYUI
    if any(layer.startswith(KEY_PREFIXES) for layer in layers):
        return Layout.PEFT
    return Layout.DIFFSYNTH if any(".default." in key for key in keys) else Layout.PEFT


# "low" alone is a word of many names, such as "low key"; in capitals it stands for the expert.
EXPERT_NAMES = {
    "video_dit": re.compile(r"(?i:high[-_ ]?noise)|(?<![A-Za-z])HIGH(?![A-Za-z])"),
    "video_dit_2": re.compile(r"(?i:low[-_ ]?noise)|(?<![A-Za-z])LOW(?![A-Za-z])"),
}


def component_of_key(layer: str) -> str | None:
    """The component a layer's name starts with, if it does."""
    first = layer.partition(".")[0]
    return first if first in LORA_COMPONENTS else None


def component_in_name(stem: str) -> str | None:
    """The component that the name of a VideoX-Fun file means."""
    match = VIDEOX_NAME.match(stem)
    return None if match is None else VIDEOX_COMPONENTS.get(match["component"])


def expert_in_name(path: Path) -> str | None:
    """The video expert whose noise a file's name has, as those of LoRAs for Wan 2.2 have, which come in pairs; else None."""
    found = {component for component, word in EXPERT_NAMES.items() if word.search(path.stem)}
    return found.pop() if len(found) == 1 else None


def module_path(layer: str, flattened: Mapping[str, str]) -> str:
    """The module path a layer's name means: prefixes taken off, diffusers' names turned back, kohya's looked up.

    `flattened` maps names with underscores for dots to the model's real paths; a name that is not in it stays as it is,
    and will be reported as unknown.
    """
    if layer.startswith(KOHYA_PREFIX):
        name = layer.removeprefix(KOHYA_PREFIX).lstrip("_")
        return flattened.get(name, name)
    path = layer
    while prefix := next((p for p in KEY_PREFIXES if path.startswith(p)), None):
        path = path.removeprefix(prefix)
    for pattern, replacement in FROM_DIFFUSERS:
        if pattern.match(path):
            return pattern.sub(replacement, path)
    return path


def flatten(paths: Collection[str]) -> dict[str, str]:
    """Paths by their names with underscores for dots, as kohya writes them, in Wan's names and in diffusers'.

    Two paths of one flattened name look the same, so neither is offered.
    """
    table: dict[str, str] = {}
    twice: set[str] = set()
    for path in paths:
        for name in {path.replace(".", "_"), to_diffusers(path).replace(".", "_")}:
            if name in table and table[name] != path:
                twice.add(name)
            table[name] = path
    return {name: path for name, path in table.items() if name not in twice}


def to_diffusers(path: str) -> str:
    """What diffusers calls a layer of a Wan tower; paths that it does not have stay as they are."""
    for pattern, replacement in TO_DIFFUSERS:
        if pattern.match(path):
            return pattern.sub(replacement, path)
    return path
