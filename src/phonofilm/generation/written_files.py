"""Which files a run will write, so that none of them replaces another, lies in another, or is one that the run reads.

A file that is written takes the place of a link under its name; links among the folders above it are followed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from phonofilm.untrusted import FOLDER_FAULT, file_fault


def would_harm(written: Path, read: Path) -> bool:
    """Whether writing a file or folder changes what is read: they are the same, or one lies in the other."""
    if file_fault(read) not in (None, FOLDER_FAULT):
        return False
    place, source = Path(os.path.realpath(written.parent), written.name), Path(os.path.realpath(read))
    same = place == source or (written.exists() and written.samefile(read))
    return same or place in source.parents or (source.is_dir() and source in place.parents)


@dataclass
class WrittenFiles:
    """The files and folders that will be written, each with who writes it."""

    _owners: dict[Path, str] = field(default_factory=dict)
    _inside: dict[Path, str] = field(default_factory=dict)

    def claim(self, file: Path, owner: str) -> str | None:
        """Note a file. Returns the owner of one that is the same, lies in this one or has this one in it; else None."""
        place = Path(os.path.realpath(file.parent), file.name)
        taken = next((self._owners[one] for one in (place, *place.parents) if one in self._owners), None)
        if taken is None:
            taken = self._inside.get(place)
        if taken is None:
            self._owners[place] = owner
            self._inside.update(dict.fromkeys(place.parents, owner))
        return taken
