"""Slabs in files, for machines with less memory than weights: written once, whole or not at all, and mapped from then on."""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.units import format_size

SLAB_FORMAT = 1
CONTENTS = "contents.json"

SlabSizes = Mapping[str, int]
"""Bytes of each slab, by name."""


def stored_slabs(
    folder: Path, sizes: SlabSizes, fingerprint: str, write: Callable[[dict[str, Tensor]], None]
) -> dict[str, Tensor]:
    """The slabs of `folder` as private maps, uint8 each: what changes in them is in memory only, page by page.

    Args:
        fingerprint: all that the bytes depend on; a folder with another fingerprint is written anew.
        write: fills the slabs of a folder that is not there yet, or not whole. They become the folder in one step.

    Raises InputError, before anything is written, when the disk has no room; MediaError when it cannot be written.
    """
    contents = json.dumps({"format": SLAB_FORMAT, "account": fingerprint, "slabs": dict(sizes)}, indent=1)
    if not _is_whole(folder, sizes, contents):
        _check_room(folder, sizes)
        with replacing(folder) as unfinished:
            unfinished.mkdir()
            made = {name: _new_map(unfinished / name, nbytes) for name, nbytes in sizes.items()}
            write({name: torch.frombuffer(pages, dtype=torch.uint8) for name, pages in made.items()})
            for pages in made.values():
                pages.flush()
            (unfinished / CONTENTS).write_text(contents, encoding="utf-8")
    return {name: _map(folder / name) for name in sizes}


def _is_whole(folder: Path, sizes: SlabSizes, contents: str) -> bool:
    """The fingerprint is written last and the folder appears at once, so sizes are all that is left to check."""
    try:
        right = (folder / CONTENTS).read_text(encoding="utf-8") == contents
        return right and all((folder / name).stat().st_size == max(1, nbytes) for name, nbytes in sizes.items())
    except OSError:
        return False


def _check_room(folder: Path, sizes: SlabSizes) -> None:
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    free, needed = shutil.disk_usage(there).free, sum(sizes.values())
    if free < needed:
        raise InputError(
            f"{folder} would take {format_size(needed)} and its disk has {format_size(free)} free; choose another folder"
        )


def _new_map(path: Path, nbytes: int) -> mmap.mmap:
    """A file that is written through its map. Its room is taken now: a disk that is full later would end the process."""
    with path.open("w+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(1, nbytes))
        return mmap.mmap(stream.fileno(), 0)


def _map(path: Path) -> Tensor:
    with path.open("rb") as stream:
        return torch.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
