"""LoRAs merged into a model's weights, and taken out again to the last bit. What a file means is read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Adapter, LoraFile, check_numbers
from phonofilm.lora.strength import Strength, check_strength, strength_of, strengths_of
from phonofilm.models.checkpoint_files import listed

Components = Mapping[str, nn.Module | None]
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, eq=False)
class Use:
    """A LoRA and how strongly it works: one number, or one per part (1 where nothing is said)."""

    lora: LoraFile
    strength: Strength = 1.0

    @property
    def works(self) -> bool:
        """Whether its strength is other than 0 anywhere."""
        return any(strengths_of(self.strength, [(component, path) for component, path, _ in self.lora.items()]))


@dataclass(frozen=True, eq=False)
class _Share:
    """What one LoRA adds to one layer: factor * up @ down."""

    adapter: Adapter
    factor: float


class MergedLoras:
    """The LoRAs that are in a model's weights, and the weights from before, so that any of them comes out exactly.

    The weights from before are the model's own tensors where merging may replace them: those that are mapped from a file
    cost no memory. Where someone else holds the weights' memory (a streamer, offloading), they are changed in place, and
    what was there is copied to host memory first.
    """

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}
        self._shares: dict[str, tuple[_Share, ...]] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """`component.path` of every layer that is changed."""
        return tuple(self._before)

    def set(self, components: Components, uses: Sequence[Use], *, in_place: bool = False) -> None:
        """Make the weights those of the model with exactly these LoRAs; none of them: the very weights from before.

        A weight becomes its value from before plus every LoRA's strength * alpha/rank * up @ down, summed in float32 and
        rounded once to the weight's dtype. Nothing is changed unless everything fits: raises InputError for an unknown
        part, or weights that are not there to change (offloaded to disk, or quantised); CheckpointError for a layer the
        model lacks, another shape, NaN.
        """
        wanted: dict[str, tuple[_Share, ...]] = {}
        layers: dict[str, nn.Linear] = {}
        for use in uses:
            check_strength(use.strength)
            check_numbers(use.lora, "the LoRA")
            layers |= fitting_layers(components, use.lora)
            for component, path, adapter in use.lora.items():
                if factor := strength_of(use.strength, component, path):
                    name = f"{component}.{path}"
                    wanted[name] = (*wanted.get(name, ()), _Share(adapter, adapter.scale * factor))
        layers |= {name: _layer(components, name) for name in self._before if name not in layers}
        for name in [*wanted, *(name for name in self._before if name not in wanted)]:
            self._set(name, layers[name], wanted.get(name, ()), in_place)

    def forget(self, component: str) -> None:
        """The component is gone from memory: let its weights from before go too."""
        for name in [name for name in self._before if name.partition(".")[0] == component]:
            del self._before[name], self._shares[name]

    @torch.no_grad()
    def _set(self, name: str, layer: nn.Linear, shares: tuple[_Share, ...], in_place: bool) -> None:
        if _same(shares, self._shares.get(name, ())):
            return
        now = layer.weight.data
        before = self._before.get(name)
        if before is None:
            before = now.to("cpu", copy=True) if in_place else now
        merged = merged_weight(before.to(now.device), shares)
        if in_place:
            now.copy_(merged)
        else:
            layer.weight.data = merged
        if shares:
            self._before[name], self._shares[name] = before, shares
        else:
            del self._before[name], self._shares[name]


def merged_weight(weight: Tensor, shares: Sequence[_Share]) -> Tensor:
    """[o,i] plus every share, summed in float32, in the weight's own dtype."""
    if not shares:
        return weight
    total = weight.float()
    for share in shares:
        up, down = (half.to(weight.device).float() for half in (share.adapter.up, share.adapter.down))
        total = total + share.factor * (up @ down)
    return total.to(weight.dtype)


def fitting_layers(components: Components, lora: LoraFile) -> dict[str, nn.Linear]:
    """The layers that `lora` adapts, by `component.path`. Raises CheckpointError unless all are there and fit; InputError
    when a weight cannot be changed."""
    found: dict[str, nn.Linear] = {}
    wrong: list[str] = []
    for component, path, adapter in lora.items():
        name = f"{component}.{path}"
        module = _submodule(components.get(component), path)
        if module is None:
            wrong.append(f"{name} (no such layer)")
        elif not isinstance(module, nn.Linear):
            wrong.append(f"{name} (a {type(module).__name__}, where a linear layer is expected)")
        elif (module.out_features, module.in_features) != (adapter.up.shape[0], adapter.down.shape[1]):
            wrong.append(f"{name} (made for {adapter.up.shape[0]}x{adapter.down.shape[1]})")
        else:
            found[name] = module
    if wrong:
        raise CheckpointError(f"{len(wrong)} adapters do not fit this model: {listed(wrong)}")
    for name, layer in found.items():
        _check_mergeable(name, layer)
    return found


def _layer(components: Components, name: str) -> nn.Linear:
    """A layer that was merged into before."""
    component, _, path = name.partition(".")
    module = _submodule(components.get(component), path)
    _check_mergeable(name, module)
    assert isinstance(module, nn.Linear)
    return module


def _check_mergeable(name: str, module: nn.Module | None) -> None:
    """Raises InputError for weights that a LoRA can neither go into nor come out of."""
    if isinstance(module, nn.Linear):
        weight = module.weight.data
        if not weight.is_meta and weight.dtype in FLOATS and type(weight) is Tensor:
            return
        found = f"{type(weight).__name__} on {weight.device} in {weight.dtype}"
    else:
        found = type(module).__name__
    raise InputError(
        f"{name} is a {found}, whose LoRAs cannot be changed; choose LoRAs before weights are offloaded to disk or quantised"
    )


def _submodule(module: nn.Module | None, path: str) -> nn.Module | None:
    for part in path.split("."):
        found = getattr(module, part, None)
        module = found if isinstance(found, nn.Module) else None
    return module


def _same(one: Sequence[_Share], other: Sequence[_Share]) -> bool:
    return len(one) == len(other) and all(
        a.adapter is b.adapter and a.factor == b.factor for a, b in zip(one, other, strict=True)
    )
