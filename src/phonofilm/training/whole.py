"""A checkpoint folder with some of its networks trained: those are written, everything else is linked to or copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from phonofilm.media.atomic import replacing
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.saving import parse_size, save_component

SHARD = "5GB"


def save_trained(layout: CheckpointLayout, trained: Mapping[str, nn.Module], folder: Path) -> Path:
    """Write `folder` as a checkpoint like `layout`'s with the `trained` networks in their files' dtype, and check it.

    Untouched files are hard links to the base's where both lie on one disk, and copies otherwise.
    """
    with replacing(folder) as fresh:
        shutil.copytree(
            layout.folder,
            fresh,
            copy_function=_link_or_copy,
            ignore=lambda where, names: _trained(layout, trained, where),
        )
        for name, network in trained.items():
            dtype = next(iter(layout.components[name].entries.values())).dtype
            save_component(fresh / name, network.to(dtype), parse_size(SHARD))
        read_layout(fresh)
    return folder


def _trained(layout: CheckpointLayout, trained: Mapping[str, nn.Module], where: str) -> set[str]:
    """The folders of trained networks, which are not copied."""
    return set(trained) if Path(where) == layout.folder else set()


def _link_or_copy(source: str, target: str) -> None:
    real = os.path.realpath(source)  # a hub cache holds links to its blobs
    if os.stat(real).st_dev == os.stat(os.path.dirname(target)).st_dev:
        os.link(real, target)
    else:
        shutil.copy2(real, target)
