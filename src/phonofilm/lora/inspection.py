"""What is in a LoRA, in figures: how much of each part it covers, ranks, alphas, sizes of the updates, what looks wrong."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from phonofilm.lora.adapter import Adapter, LoraFile
from phonofilm.lora.target_layers import linear_layers

HIGH, LOW = re.compile(r"high[-_ ]?noise|(?<![a-z])high(?![a-z])"), re.compile(r"low[-_ ]?noise|(?<![a-z])low(?![a-z])")


COMPONENT_COLUMNS = ("part", "adapters", "targets", "rank", "alpha", "update: median", "largest")


@dataclass(frozen=True)
class ComponentReport:
    """One component's adapters. `block_layers`: linear layers its blocks have in all; None without a model.

    `targets` counts adapters by the last part of their name; `norm_*` are Frobenius norms of the updates; `untrained` of
    them are zero.
    """

    component: str
    adapters: int
    block_layers: int | None
    targets: Mapping[str, int]
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    norm_median: float
    norm_max: float
    untrained: int

    @property
    def row(self) -> tuple[str, ...]:
        """In words, under COMPONENT_COLUMNS."""
        covered = str(self.adapters) if self.block_layers is None else f"{self.adapters} of {self.block_layers}"
        targets = ", ".join(f"{name} x{count}" for name, count in self.targets.items())
        ranks, alphas = (", ".join(f"{value:g}" for value in values) for values in (self.ranks, self.alphas))
        return (self.component, covered, targets, ranks, alphas, f"{self.norm_median:.4g}", f"{self.norm_max:.4g}")


@dataclass(frozen=True)
class LoraReport:
    """A whole file: its layout, its parts, what it says of itself, and warnings for the user."""

    layout: str
    components: tuple[ComponentReport, ...]
    metadata: Mapping[str, str]
    suspicions: tuple[str, ...]


def report_on(lora: LoraFile, path: Path, components: Mapping[str, nn.Module | None] | None = None) -> LoraReport:
    """Figures of `lora`, read from `path`; with the model's `components` (meta will do) also how much of it is covered."""
    layers = None if components is None else linear_layers(components)
    parts = tuple(
        _component(name, adapters, None if layers is None else sum(map(_in_blocks, layers[name])))
        for name, adapters in lora.adapters.items()
    )
    return LoraReport(str(lora.layout), parts, dict(lora.metadata), tuple(_suspicions(lora, path, parts)))


def _component(name: str, adapters: Mapping[str, Adapter], block_layers: int | None) -> ComponentReport:
    norms = [adapter.norm() for adapter in adapters.values()]
    return ComponentReport(
        component=name,
        adapters=len(adapters),
        block_layers=block_layers,
        targets=dict(Counter(_target(path) for path in adapters)),
        ranks=tuple(sorted({adapter.rank for adapter in adapters.values()})),
        alphas=tuple(sorted({adapter.alpha for adapter in adapters.values()})),
        norm_median=statistics.median(norms),
        norm_max=max(norms),
        untrained=sum(norm == 0 for norm in norms),
    )


def _suspicions(lora: LoraFile, path: Path, parts: tuple[ComponentReport, ...]) -> list[str]:
    found: list[str] = []
    if swap := suspected_swap(path.name, tuple(lora.adapters)):
        found.append(swap)
    for part in parts:
        if part.untrained:
            found.append(f"{part.untrained} of {part.adapters} adapters of {part.component} are zero: never trained")
        odd = max(part.alphas) / max(part.ranks)
        if odd > 4:
            found.append(
                f"alpha / rank of {part.component} is {odd:g}, unusually strong; is the alpha right? (--alpha)"
            )
    return found


def suspected_swap(name: str, components: tuple[str, ...]) -> str | None:
    """Says so when a file's name speaks of one expert and its adapters are for the other alone."""
    high, low = bool(HIGH.search(name.lower())), bool(LOW.search(name.lower()))
    if high and not low and "video_dit_2" in components and "video_dit" not in components:
        return f"experts swapped? {name} says high, but it is taken for the low-noise expert, video_dit_2"
    if low and not high and "video_dit" in components and "video_dit_2" not in components:
        return f"experts swapped? {name} says low, but it is taken for the high-noise expert, video_dit (--expert low)"
    return None


def _target(path: str) -> str:
    """The last part of a name; a number keeps the part before it, as in ffn.0."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]


def _in_blocks(path: str) -> bool:
    return "blocks." in path or "conditioners." in path
