"""A LoRA merged into a model's weights, and taken out again to the last bit. What a file means is read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import LoraFile, check_numbers
from phonofilm.lora.layers import linear_layers
from phonofilm.lora.strength import Strength, check_strength, strength_of
from phonofilm.models.files import listed

# Where each layer remembers the LoRAs merged into it, the last one last: they come out in the opposite order.
STACK = "merged_loras"


@dataclass(eq=False)
class AppliedLora:
    """A LoRA that is in a model's weights. `remove` puts the very weights back that were there before."""

    layers: Mapping[str, nn.Linear]
    _before: dict[str, Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many layers it changed: those with a strength other than 0."""
        return len(self._before)

    def remove(self) -> None:
        """Take it out; a second time changes nothing. Raises InputError when another LoRA merged on top is still in."""
        for name in self._before:
            if getattr(self.layers[name], STACK)[-1] is not self:
                raise InputError(f"another LoRA is merged on top of this one in {name}; remove that one first")
        for name, weight in self._before.items():
            layer = self.layers[name]
            layer.weight.data = weight.to(layer.weight.device)
            setattr(layer, STACK, getattr(layer, STACK)[:-1])
        self._before.clear()


def apply_lora(components: Mapping[str, nn.Module | None], lora: LoraFile, strength: Strength = 1.0) -> AppliedLora:
    """Adds strength * alpha/rank * up @ down to every adapted weight, summed in float32 and kept in the weight's dtype.

    `strength`: one number, or one per part: video, high, low, audio, bridge, a2v, v2a (1 where nothing is said; the
    narrower name wins). The weights from before stay in memory until `remove`. Nothing is changed unless everything fits:
    raises InputError for an unknown part, or weights that are not there to change (offloaded, or quantised);
    CheckpointError for a layer the model lacks, another shape, NaN.
    """
    check_strength(strength)
    check_numbers(lora, "the LoRA")
    layers = _layers(components, lora)
    applied = AppliedLora(layers)
    for component, path, adapter in lora.items():
        factor = strength_of(strength, component, path)
        if factor == 0:
            continue
        name = f"{component}.{path}"
        layer, before = layers[name], layers[name].weight.data
        delta = adapter.scale * factor * (adapter.up.to(before.device).float() @ adapter.down.to(before.device).float())
        applied._before[name] = before
        layer.weight.data = (before.float() + delta).to(before.dtype)
        setattr(layer, STACK, (*getattr(layer, STACK, ()), applied))
    return applied


def _layers(components: Mapping[str, nn.Module | None], lora: LoraFile) -> dict[str, nn.Linear]:
    shapes = linear_layers(components)
    found: dict[str, nn.Linear] = {}
    wrong: list[str] = []
    for component, path, adapter in lora.items():
        module = components.get(component)
        shape = shapes.get(component, {}).get(path)
        if module is None or shape is None:
            wrong.append(f"{component}.{path} (no such layer)")
        elif shape != (adapter.up.shape[0], adapter.down.shape[1]):
            wrong.append(f"{component}.{path} (made for {adapter.up.shape[0]}x{adapter.down.shape[1]})")
        else:
            layer = module.get_submodule(path)
            assert isinstance(layer, nn.Linear)
            found[f"{component}.{path}"] = layer
    if wrong:
        raise CheckpointError(f"{len(wrong)} adapters do not fit this model: {listed(wrong)}")
    for name, layer in found.items():
        if layer.weight.is_meta or layer.weight.dtype not in (
            torch.float32,
            torch.bfloat16,
            torch.float16,
            torch.float64,
        ):
            raise InputError(
                f"the weight of {name} is on {layer.weight.device} in {layer.weight.dtype}; "
                "apply a LoRA before weights are offloaded or quantised"
            )
    return found
