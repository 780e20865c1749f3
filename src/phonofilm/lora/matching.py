"""Matching a LoRA to the model: which layer of which component each of its layers is for, and whether all of them fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Adapter, Layout
from phonofilm.lora.components import LORA_COMPONENTS, component_named
from phonofilm.lora.ours import COMPONENT_KEY
from phonofilm.lora.sources import PEFT_WEIGHTS, LoraSource
from phonofilm.lora.target_layers import Shape
from phonofilm.lora.tensor_names import Parts, component_in_name, component_of_key, expert_in_name, flatten, module_path
from phonofilm.models.checkpoint_files import listed

logger = logging.getLogger(__name__)

Layers = Mapping[str, Mapping[str, Shape]]


@dataclass(frozen=True)
class ReadOptions:
    """What the caller says besides the file: the model's layers (None: unknown), the expert and the alpha the user names."""

    layers: Layers | None
    expert: str | None
    alpha: float | None


def place_layers(
    source: LoraSource, layout: Layout, parts: Mapping[str, Parts], options: ReadOptions
) -> dict[str, tuple[str, str]]:
    """(component, path) of every layer."""
    if layout in (Layout.PHONOFILM, Layout.ORIGINAL, Layout.LOW_RESOURCE):
        if lost := [layer for layer in parts if component_of_key(layer) is None]:
            raise CheckpointError(unused(source, lost, f"name no component (expected {', '.join(LORA_COMPONENTS)})"))
        return {layer: (layer.partition(".")[0], layer.partition(".")[2]) for layer in parts}
    if layout is Layout.KOHYA and options.layers is None:
        raise InputError(
            f"{source.path} has kohya's names, with underscores for dots: only a model tells them apart; "
            "name the model too"
        )
    said = _component_said(source, options)
    second = set() if said is not None else {layer for layer in parts if layer.startswith("transformer_2.")}
    usual = said or ("video_dit" if second == set(parts) else _default(options, source))
    placed: dict[str, tuple[str, str]] = {}
    for layer in parts:
        component = "video_dit_2" if layer in second else usual
        flattened = flatten((options.layers or {}).get(component, {}))
        placed[layer] = (component, module_path(layer, flattened))
    return placed


def _component_said(source: LoraSource, options: ReadOptions) -> str | None:
    """What the file itself says it is for, or else what the user says; None when neither does."""
    folder = source.path.parent.name if source.path.name == PEFT_WEIGHTS else ""
    own = source.header.get(COMPONENT_KEY) or (
        folder if folder in LORA_COMPONENTS else component_in_name(source.path.stem)
    )
    if own is None:
        return options.expert
    if options.expert not in (None, own):
        raise InputError(f"{source.path} is for {own}, by its own name or metadata, but was given for {options.expert}")
    return component_named(own)


def _default(options: ReadOptions, source: LoraSource) -> str:
    """What the user says, else the expert that the file's name has, else the high one."""
    named = expert_in_name(source.path)
    if options.expert is None and named is None:
        logger.warning("%s does not say which part of the model it is for; taken for the high expert", source.path)
    return options.expert or named or "video_dit"


def check_layers_fit(source: LoraSource, adapters: Mapping[str, Mapping[str, Adapter]], layers: Layers | None) -> None:
    """Raises CheckpointError unless every adapter fits a linear layer of the model."""
    if layers is None:
        return
    if absent := [component for component in adapters if component not in layers]:
        raise CheckpointError(f"{source.path} is for {', '.join(absent)}, which this model does not have")
    unknown = [f"{c}.{p}" for c, found in adapters.items() for p in found if p not in layers[c]]
    if unknown:
        raise CheckpointError(unused(source, unknown, "are no linear layers of this model"))
    wrong = [
        f"{c}.{p} (made for {given[0]}x{given[1]}, the layer is {layers[c][p][0]}x{layers[c][p][1]})"
        for c, found in adapters.items()
        for p, a in found.items()
        if (given := (a.up.shape[0], a.down.shape[1])) != layers[c][p]
    ]
    if wrong:
        raise CheckpointError(unused(source, wrong, "have another shape; another model, or another --expert?"))


def unused(source: LoraSource, names: list[str], why: str) -> str:
    return f"{source.path}: {len(names)} of its names {why}: {listed(names)}"
