"""A checkpoint folder with some of its networks trained: those are written, everything else is linked to or copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from phonofilm.files import replacing
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.checksums import write_checksums
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.saving import save_component, update_model_index
from phonofilm.units import parse_size

EXPORT_SHARD = "5GB"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and its trained weights by name, which are asked for as they are written."""

    network: nn.Module
    weights: Mapping[str, Tensor]


class WithoutPrefix(Mapping[str, Tensor]):
    """Those of `weights` whose names begin with `prefix`, by the rest of their names. Nothing is read before it is asked for."""

    def __init__(self, prefix: str, weights: Mapping[str, Tensor]) -> None:
        self._prefix, self._weights = prefix, weights

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._weights if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._weights


def export_checkpoint(
    layout: CheckpointLayout,
    trained: Mapping[str, TrainedNetwork],
    folder: Path,
    scalars: Mapping[str, Any] | None = None,
) -> Path:
    """Write `folder` as a checkpoint like `layout`'s with the `trained` networks in their files' dtype, and check it.

    `scalars` go into its model_index.json. The base's own student of few steps is left out: it was distilled from the weights
    from before.
    Untouched files are hard links to the base's where both lie on one disk, and copies otherwise.
    """
    with replacing(folder) as fresh:
        shutil.copytree(
            layout.folder,
            fresh,
            copy_function=_link_or_copy,
            ignore=lambda where, names: _trained(layout, trained, where),
        )
        for name, part in trained.items():
            dtype = next(iter(layout.components[name].entries.values())).dtype
            save_component(fresh / name, part.network, parse_size(EXPORT_SHARD, "the shard size"), part.weights, dtype)
        if scalars:
            update_model_index(fresh, scalars)
        read_layout(fresh)
        write_checksums(fresh)
    return folder


def _trained(layout: CheckpointLayout, trained: Mapping[str, TrainedNetwork], where: str) -> set[str]:
    """What is not copied: the folders of trained networks, and the base's own student."""
    return {*trained, STUDENT_FILE} if Path(where) == layout.folder else set()


def _link_or_copy(source: str, target: str) -> None:
    real = os.path.realpath(source)  # a hub cache holds links to its blobs
    if os.stat(real).st_dev == os.stat(os.path.dirname(target)).st_dev:
        os.link(real, target)
    else:
        shutil.copy2(real, target)
