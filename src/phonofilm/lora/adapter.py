"""A LoRA file in memory, whatever layout it came in: one low-rank update per linear layer, by component. No files here.

Shapes: r rank, i input features, o output features of the adapted layer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import Tensor

from phonofilm.errors import CheckpointError

# Beyond it half precision overflows whatever the matrices hold; files that state more are damaged.
LARGEST_ALPHA = 1e6


class Layout(StrEnum):
    """The kinds of LoRA file, by who writes them."""

    PHONOFILM = "phonofilm"
    ORIGINAL = "original"
    LOW_RESOURCE = "original low-resource"
    DIFFSYNTH = "diffsynth"
    VIDEOX_FUN = "videox-fun"
    KOHYA = "kohya"
    PEFT = "peft"
    COMFYUI = "comfyui"


@dataclass(frozen=True, eq=False)
class Adapter:
    """The update of one linear layer: alpha/r * up @ down, with down [r,i] and up [o,r]."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """The update itself, float32 [o,i]."""
        return self.scale * (self.up.float() @ self.down.float())

    def norm(self) -> float:
        """Frobenius norm of the update, from r x r products alone."""
        up, down = self.up.double(), self.down.double()
        squared = torch.trace((up.T @ up) @ (down @ down.T)).item()
        return abs(self.scale) * math.sqrt(max(squared, 0.0))

    def equals(self, other: Adapter) -> bool:
        """Whether both are the same in every bit."""
        pairs = ((self.down, other.down), (self.up, other.up))
        return self.alpha == other.alpha and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@dataclass(frozen=True, eq=False)
class LoraFile:
    """Adapters by component and module path; `metadata` says base_model, trigger_word, config_hash, steps, where known."""

    layout: Layout
    adapters: Mapping[str, Mapping[str, Adapter]]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[str, str, Adapter]]:
        """(component, path, adapter) of every adapted layer."""
        for component, layers in self.adapters.items():
            for path, adapter in layers.items():
                yield component, path, adapter

    def with_alpha(self, alpha: float) -> LoraFile:
        """The same with every adapter's alpha replaced."""
        changed = {c: {p: replace(a, alpha=alpha) for p, a in layers.items()} for c, layers in self.adapters.items()}
        return replace(self, adapters=changed)

    def equals(self, other: LoraFile) -> bool:
        """Whether adapters and metadata are the same in every bit; the layout may differ."""
        mine = {(c, p): a for c, p, a in self.items()}
        theirs = {(c, p): a for c, p, a in other.items()}
        same = mine.keys() == theirs.keys() and all(a.equals(theirs[key]) for key, a in mine.items())
        return same and dict(self.metadata) == dict(other.metadata)


def most_common(values: Mapping[str, float]) -> float:
    """The value that most layers have; of equally common ones, the first."""
    return Counter(values.values()).most_common(1)[0][0]


def check_shapes(name: str, adapter: Adapter) -> None:
    """Raises CheckpointError unless down is [r,i] and up [o,r] with the same r of at least 1."""
    down, up = tuple(adapter.down.shape), tuple(adapter.up.shape)
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or down[0] < 1:
        raise CheckpointError(f"{name}: down is {list(down)} and up {list(up)}; expected [rank, in] and [out, rank]")


def check_numbers(lora: LoraFile, origin: str) -> None:
    """Raises CheckpointError when there is no adapter at all, or a number in one is not finite."""
    if not any(lora.adapters.values()):
        raise CheckpointError(f"{origin} is an empty LoRA: it holds no adapter")
    for component, path, adapter in lora.items():
        check_shapes(f"{origin}: {component}.{path}", adapter)
        finite = all(bool(torch.isfinite(t).all()) for t in (adapter.down, adapter.up))
        if not finite or not abs(adapter.alpha) <= LARGEST_ALPHA:
            raise CheckpointError(
                f"{origin}: {component}.{path} holds NaN or infinity, or an alpha of that size; no output would survive it"
            )


def check_trained(lora: LoraFile, origin: str) -> None:
    """Raises CheckpointError when a component's every up matrix is zero: it changes nothing, so it was not trained."""
    for component, layers in lora.adapters.items():
        if layers and not any(bool(adapter.up.any()) for adapter in layers.values()):
            raise CheckpointError(
                f"{origin}: every lora_B of {component} is zero, so it changes nothing; "
                "train it, or leave the component out of the file"
            )
