"""Reading a LoRA in any layout: its tensors by layer, the alpha of each. Which layer of the model each is for: matching.py."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Adapter, Layout, LoraFile, check_numbers, check_shapes
from phonofilm.lora.components import LORA_COMPONENTS, component_named
from phonofilm.lora.matching import Layers, ReadOptions, check_layers_fit, place_layers, unused
from phonofilm.lora.ours import FORMAT_NAME, check_version, metadata_of, stated_alphas, unfolded
from phonofilm.lora.sources import PEFT_WEIGHTS, LoraSource, open_sources
from phonofilm.lora.target_layers import linear_layers
from phonofilm.lora.tensor_names import (
    Parts,
    detect,
    group,
    to_diffusers,
)
from phonofilm.lora.tensor_roles import EXPECTED
from phonofilm.lora.zero_adapters import without_fillers

logger = logging.getLogger(__name__)

ORIGINAL_ALPHA = 16.0  # what the original reads when there is no config


def read_lora(
    path: str | Path,
    components: Mapping[str, nn.Module | None] | None = None,
    *,
    expert: str | None = None,
    alpha: float | None = None,
) -> LoraFile:
    """The LoRA at `path`, a file or a folder, in whichever layout it is.

    Args:
        components: the model's modules by name; on the meta device will do. With them every name and shape is checked,
            and kohya's names can be read. Without, names are taken as they are.
        expert: high, low, audio or bridge: what a file is for that does not say it. Such files are for `high` by default.
        alpha: replaces what the file says; the update is alpha / rank times up @ down.

    Raises InputError when there is no LoRA, or the file contradicts `expert`; CheckpointError when any tensor is left over:
    an unknown layer or component, a wrong shape, a missing partner, NaN.
    """
    return read_for_layers(path, None if components is None else linear_layers(components), expert=expert, alpha=alpha)


def read_for_layers(
    path: str | Path, layers: Layers | None, *, expert: str | None = None, alpha: float | None = None
) -> LoraFile:
    """`read_lora` for a model of which only the linear layers' (out, in) are known, by component and path."""
    options = ReadOptions(layers, None if expert is None else component_named(expert), alpha)
    merged: dict[str, dict[str, Adapter]] = {}
    metadata: dict[str, str] = {}
    layouts: list[Layout] = []
    for source in open_sources(Path(path)):
        lora = _read_source(source, options)
        for component, adapters in lora.adapters.items():
            if component in merged:
                raise InputError(
                    f"{path} has two LoRAs for {component}, the second in {source.path.name}; name one file"
                )
            merged[component] = dict(adapters)
        metadata |= lora.metadata
        layouts.append(lora.layout)
    if len(set(layouts)) > 1:
        raise InputError(f"{path} mixes the layouts {', '.join(sorted(set(layouts)))}; name one file")
    lora = LoraFile(layouts[0], {name: merged[name] for name in LORA_COMPONENTS if name in merged}, metadata)
    check_numbers(lora, str(path))
    return lora


def _read_source(source: LoraSource, options: ReadOptions) -> LoraFile:
    parts, strange = group(source.tensors)
    if strange:
        raise CheckpointError(unused(source, strange, f"are no part of a LoRA ({EXPECTED})"))
    parts = without_fillers(source, parts)
    layout = _layout(source, parts)
    if layout is Layout.PHONOFILM:
        check_version(source, parts)
    placed = place_layers(source, layout, parts, options)
    alphas = stated_alphas(source, parts)
    adapters: dict[str, dict[str, Adapter]] = {}
    for layer, (component, path) in placed.items():
        adapter = _adapter(source, layer, parts[layer], options.alpha, _alpha(source, layout, component, path, alphas))
        if path in adapters.setdefault(component, {}):
            raise CheckpointError(f"{source.path} has two adapters for {component}.{path}, the second as {layer}")
        adapters[component][path] = adapter
    check_layers_fit(source, adapters, options.layers)
    for component, layers in adapters.items():
        logger.info("%s: %s layout, %d adapters for %s", source.path, layout, len(layers), component)
    logger.info("%s: all %d tensors used", source.path, len(source.tensors))
    return LoraFile(layout, adapters, metadata_of(source))


def _layout(source: LoraSource, parts: Mapping[str, Parts]) -> Layout:
    if source.header.get("format") == FORMAT_NAME:
        return Layout.PHONOFILM
    if source.low_resource:
        return Layout.LOW_RESOURCE
    if source.path.name == PEFT_WEIGHTS:
        return Layout.PEFT
    return detect(source.tensors.keys(), parts.keys(), source.path.stem)


def _alpha(source: LoraSource, layout: Layout, component: str, path: str, alphas: Mapping[str, float]) -> float | None:
    """What the settings beside the tensors say of one layer; None when they say nothing."""
    if (stated := alphas.get(f"{component}.{path}")) is not None:
        return stated
    config = source.config
    pattern = config.get("alpha_pattern")
    named = (pattern.get(path), pattern.get(to_diffusers(path))) if isinstance(pattern, dict) else ()
    value = next((value for value in named if value is not None), config.get("lora_alpha", config.get("alpha")))
    if value is None:
        return ORIGINAL_ALPHA if layout is Layout.ORIGINAL and source.path.suffix == ".pt" else None
    if not isinstance(value, int | float):
        raise CheckpointError(f"{source.path} has alpha {value!r}; expected a number")
    return float(value)


def _adapter(source: LoraSource, layer: str, parts: Parts, wanted: float | None, stated: float | None) -> Adapter:
    if parts.down is None or parts.up is None:
        raise CheckpointError(f"{source.path}: {layer} lacks its {'lora_A' if parts.down is None else 'lora_B'}")
    rank = parts.down.shape[0] if parts.down.ndim else 0
    alpha = float(rank) if stated is None else stated
    if source.config.get("use_rslora"):
        alpha *= math.sqrt(rank)  # rank-stabilised: alpha / sqrt(rank) instead of alpha / rank
    if parts.alpha is not None:
        if parts.alpha.numel() != 1:
            raise CheckpointError(f"{source.path}: {layer}.alpha has {parts.alpha.numel()} values; expected one")
        alpha = float(parts.alpha.item())
    adapter = Adapter(parts.down, parts.up, alpha)
    check_shapes(f"{source.path}: {layer}", adapter)
    adapter = unfolded(adapter, source)
    return adapter if wanted is None else replace(adapter, alpha=wanted)
