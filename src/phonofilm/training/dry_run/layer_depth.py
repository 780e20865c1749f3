"""The same model with fewer fused layers, for as long as something is measured on it, and the way back to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from phonofilm.models.joint import JointDenoiser
from phonofilm.training.task.joint_task import JointModel

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Depth:
    """Fused layers of both towers, and layers past the audio tower's end, where the picture runs alone."""

    fused: int
    alone: int = 0


@dataclass(frozen=True)
class LinearInDepth:
    """A quantity that grows evenly with depth: of one fused layer with everything around, and for each further layer."""

    first: float
    fused: float
    alone: float

    def at(self, depth: Depth) -> float:
        return self.first + (depth.fused - 1) * self.fused + depth.alone * self.alone


def depth_of(denoiser: JointDenoiser) -> Depth:
    """The model's own depth."""
    fused = len(denoiser.audio.blocks)
    return Depth(fused, len(denoiser.video.blocks) - fused)


def depths_to_measure(full: Depth) -> tuple[Depth, ...]:
    """The shallow models that tell one layer's share: one fused layer, two, and one with a further layer of picture alone."""
    depths = [Depth(1)]
    if full.fused > 1:
        depths.append(Depth(2))
    if full.alone:
        depths.append(Depth(1, 1))
    return tuple(depths)


def fit_depth(found: dict[Depth, float]) -> LinearInDepth:
    """What was found at `depths_to_measure`, as a law. A layer never takes less than nothing."""
    first = found[Depth(1)]
    fused, alone = (max(0.0, found[depth] - first) if depth in found else 0.0 for depth in (Depth(2), Depth(1, 1)))
    return LinearInDepth(first, fused, alone)


class _FirstLayers(nn.ModuleList):
    """A tower's blocks that pretends to end after a few. All are there still, for whoever moves weights by name."""

    def __init__(self, blocks: nn.ModuleList, count: int) -> None:
        super().__init__()
        self._modules = blocks._modules
        self._count = count

    def __len__(self) -> int:
        return self._count


def at_each_depth(model: JointModel, measure: Callable[[], Measured]) -> dict[Depth, Measured]:
    """What `measure` finds of the shallow models."""
    found = {}
    for depth in depths_to_measure(depth_of(model.high)):
        with truncated(model, depth):
            found[depth] = measure()
    return found


def at_full_depth(model: JointModel, found: dict[Depth, float]) -> float:
    """A quantity of the whole model, from that of the shallow ones."""
    return fit_depth(found).at(depth_of(model.high))


@contextmanager
def truncated(model: JointModel, depth: Depth) -> Iterator[None]:
    """A block in which every expert has only its first `depth` layers."""
    denoisers = [denoiser for denoiser in (model.high, model.low) if denoiser is not None]
    owners: dict[int, tuple[Any, str, Any]] = {}
    for denoiser in denoisers:
        bridge = denoiser.bridge
        kept = tuple(index for index in bridge.interaction_layers if index < depth.fused)
        for owner, name, value in (
            (denoiser.video, "blocks", _FirstLayers(denoiser.video.blocks, depth.fused + depth.alone)),
            (denoiser.audio, "blocks", _FirstLayers(denoiser.audio.blocks, depth.fused)),
            (bridge, "interaction_layers", kept),
        ):
            owners.setdefault(id(owner), (owner, name, value))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in owners.values()]
    try:
        for owner, name, value in owners.values():
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
