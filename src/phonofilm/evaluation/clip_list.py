"""Which files are measured, how they are named and grouped, and which prompt each was made from. Opens none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.evaluation.prompt_items import PromptItem, item_of

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a run; see `ClipFacts` for id and category."""

    path: Path
    id: str
    category: str
    item: PromptItem | None


def list_clips(paths: Sequence[Path], items: Sequence[PromptItem] = ()) -> tuple[ClipEntry, ...]:
    """The clips of files and folders (searched through), ordered by category and id.

    A clip's category is its prompt's, else the folder it lies in below the one that was given. Raises InputError when there
    are none, or a path does not exist.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not files:
                raise InputError(f"{path} holds no clip; clips end in {', '.join(SUFFIXES)}")
            found.update({file: "" if file.parent == path else file.relative_to(path).parts[0] for file in files})
        elif path.is_file():
            found[path] = ""
        else:
            raise InputError(f"there is no file or folder {path}")
    names = Counter(file.stem for file in found)
    entries = []
    for file, folder in found.items():
        fitting = [item for item in items if not folder or item.category == folder] or items
        item = item_of(file.stem, fitting)
        name = file.stem if names[file.stem] == 1 else "/".join(file.with_suffix("").parts[-3:])
        entries.append(ClipEntry(file, name, item.category if item else folder, item))
    return tuple(sorted(entries, key=lambda entry: (entry.category, entry.id)))


def without_clip(items: Iterable[PromptItem], entries: Sequence[ClipEntry]) -> tuple[PromptItem, ...]:
    """The prompts that no clip was made from."""
    made = {(entry.item.category, entry.item.id) for entry in entries if entry.item is not None}
    return tuple(item for item in items if (item.category, item.id) not in made)
