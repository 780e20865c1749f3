"""Which linear layers of a model can carry an adapter, and which a list of targets means. Names are matched exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from phonofilm.errors import InputError
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.models.hub import resolve_model
from phonofilm.models.layout import NETWORKS, CheckpointLayout, read_layout
from phonofilm.models.quantized import CONFIG_KEY, QuantizedLinear

ATTENTION_TARGETS = ("q", "k", "v", "o")
ALL_TARGETS = (*ATTENTION_TARGETS, "ffn.0", "ffn.2")

Shape = tuple[int, int]


def linear_layers(components: Mapping[str, nn.Module | None]) -> dict[str, dict[str, Shape]]:
    """(out, in) features of every linear layer by component and path. Modules without weights (meta) will do."""
    return {
        name: {
            path: (layer.out_features, layer.in_features)
            for path, layer in module.named_modules()
            if isinstance(layer, (nn.Linear, QuantizedLinear))
        }
        for name in LORA_COMPONENTS
        if (module := components.get(name)) is not None
    }


def empty_components(layout: CheckpointLayout) -> dict[str, nn.Module | None]:
    """The towers and the bridge of a checkpoint without their weights, on the meta device."""
    return {name: part.skeleton for name, part in layout.components.items() if name in LORA_COMPONENTS}


def components_of(model: str) -> dict[str, nn.Module | None]:
    """The same of a model by its name; its other parts need not be there."""
    others = ("tokenizer", *(name for name in NETWORKS if name not in LORA_COMPONENTS))
    return empty_components(read_layout(resolve_model(model), others))


def check_plain(layout: CheckpointLayout) -> None:
    """Raises InputError when a checkpoint's weights are quantised: no LoRA can be merged into those."""
    for name, part in layout.components.items():
        if name in LORA_COMPONENTS and part.config.get(CONFIG_KEY) is not None:
            raise InputError(
                f"{name} of {layout.folder} is quantised, and a LoRA cannot be merged into that; merge it into the checkpoint "
                "that was quantised (phonofilm lora merge), then quantise the result"
            )


def adapted_layers(
    components: Mapping[str, nn.Module | None], targets: Sequence[str] = ATTENTION_TARGETS
) -> dict[str, tuple[str, ...]]:
    """The paths that `targets` name in each component: those whose last parts are the target, whole.

    "o" means `blocks.0.self_attn.o` and nothing else that has an o in it. Raises InputError for no targets, and for one
    that names no layer of any component.
    """
    layers = linear_layers(components)
    if not targets:
        raise InputError(f"no targets given; expected some of {', '.join(ALL_TARGETS)}")
    for target in targets:
        if not any(_names(target, path) for paths in layers.values() for path in paths):
            raise InputError(
                f"target {target!r} names no linear layer of {', '.join(layers) or 'the model'}; "
                f"expected the exact end of a layer's name, such as {', '.join(ALL_TARGETS)}"
            )
    return {
        component: tuple(path for path in paths if any(_names(target, path) for target in targets))
        for component, paths in layers.items()
    }


def _names(target: str, path: str) -> bool:
    return path == target or path.endswith(f".{target}")
