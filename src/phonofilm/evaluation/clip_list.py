"""Which files are measured, how they are named and grouped, and which prompt each was made from. Opens none of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.evaluation.prompt_items import PromptItem, item_of
from phonofilm.untrusted import FOLDER_FAULT, PIPE_FAULT, file_fault, shown

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
NAMED = 5  # files that are passed over


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a run; see `ClipFacts` for id and category."""

    path: Path
    id: str
    category: str
    item: PromptItem | None


@dataclass(frozen=True)
class _Found:
    """A clip file, and the folder that was given, or that the given file lies in."""

    path: Path
    root: Path

    @property
    def folder(self) -> str:
        """The folder it lies in below the given one; empty for none."""
        return "" if self.path.parent == self.root else self.path.relative_to(self.root).parts[0]

    def names(self) -> tuple[str, ...]:
        """Its name below the given folder, then with what may tell it from others of that name."""
        whole = self.path.relative_to(self.root)
        name, file = whole.with_suffix("").as_posix(), whole.as_posix()
        root = Path(os.path.realpath(self.root))
        two = f"{root.parent.name}/{root.name}"
        return name, file, f"{root.name}/{name}", f"{root.name}/{file}", f"{two}/{name}", f"{two}/{file}"


def list_clips(paths: Sequence[Path], items: Sequence[PromptItem] = ()) -> tuple[ClipEntry, ...]:
    """The clips of files and folders (searched through), ordered by category and id; a file that is found twice, once.

    An id is the clip's place below the folder that was given, without that folder's own name, so that the clips of two
    models pair. A category is that of the clip's prompt, else the folder it lies in below the one that was given. Raises
    InputError when there are no clips, a path does not exist, or two clips cannot be distinguished.
    """
    found: dict[Path, _Found] = {}
    for path in paths:
        for one in _clips_of(path):
            found.setdefault(Path(os.path.realpath(one.path.parent), one.path.name), one)
    names = _distinct([one.names() for one in found.values()])
    entries = []
    for one, name in zip(found.values(), names, strict=True):
        fitting = [item for item in items if not one.folder or item.category == one.folder] or items
        item = item_of(one.path.stem, fitting)
        entries.append(ClipEntry(one.path, name, item.category if item else one.folder, item))
    return tuple(sorted(entries, key=lambda entry: (entry.category, entry.id)))


def _clips_of(path: Path) -> list[_Found]:
    if path.is_file():
        return [_Found(path, path.parent)]
    if not path.is_dir():
        raise InputError(f"there is no file or folder {path}")
    files = [file for file in _files_below(path) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(f"{path} holds no clip; clips end in {', '.join(SUFFIXES)}")
    return [_Found(file, path) for file in files]


def _files_below(folder: Path) -> list[Path]:
    """All files but hidden ones, in order: systems and programs keep copies of their own under such names.

    Raises InputError for a folder that cannot be listed: what is in it would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)} cannot be listed ({error.strerror}); its clips would be left out")

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    # A link that leads nowhere stays, to be a failed row: its clip would be missing without a word.
    return sorted(file for file in found if file_fault(file) not in (FOLDER_FAULT, PIPE_FAULT))


def _distinct(candidates: Sequence[tuple[str, ...]]) -> list[str]:
    """For each clip the first of its names that no other clip has in that place."""
    counts = [Counter(names) for names in zip(*candidates, strict=True)]
    chosen = [
        next((name for name, count in zip(names, counts, strict=True) if count[name] == 1), names[0])
        for names in candidates
    ]
    twice = [name for name, times in Counter(chosen).items() if times > 1]
    if twice:
        raise InputError(f"two clips are named {shown(twice[0])}; evaluate their folders one by one")
    return chosen


def passed_over(paths: Iterable[Path], apart: Path) -> str:
    """A sentence on the files of folders that are no clips by their names; empty for none.

    Hidden files, JSON, captions and the like that are named as a clip is, and what lies in the folder `apart`, go without
    saying.
    """
    files = [file for path in paths if path.is_dir() for file in _files_below(path)]
    known = {file.with_suffix("") for file in files if file.suffix.lower() in SUFFIXES}
    others = [
        file for file in files if file.with_suffix("") not in known and file.suffix.lower() not in (".json", ".jsonl")
    ]
    names = [file.name for file in others if Path(os.path.realpath(apart)) not in Path(os.path.realpath(file)).parents]
    if not names:
        return ""
    named = ", ".join(map(shown, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
    return f"{'1 file is no clip' if len(names) == 1 else f'{len(names)} files are no clips'}: {named}"


def without_clip(items: Iterable[PromptItem], entries: Sequence[ClipEntry]) -> tuple[PromptItem, ...]:
    """The prompts that no clip was made from."""
    made = {(entry.item.category, entry.item.id) for entry in entries if entry.item is not None}
    return tuple(item for item in items if (item.category, item.id) not in made)
