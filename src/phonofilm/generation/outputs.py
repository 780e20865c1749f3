"""Where clips go: the kind of file, its name, one name per clip, and whether it can be written. Checked before anything runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.files import check_target
from phonofilm.generation.reservation import is_reserved
from phonofilm.generation.written_files import WrittenFiles
from phonofilm.units import format_size
from phonofilm.untrusted import printable, shown

LATENT = "latent"
FRAMES = "frames"
SUFFIXES = {"mp4": ".mp4", "webm": ".webm", "gif": ".gif", FRAMES: "", LATENT: ".safetensors"}
CONTAINERS = ("mp4", "webm")
LEAST_FREE = 2**18  # bytes; a disk with less is full, and a clip would be made for nothing
MAX_NAME_BYTES = 200  # most file systems allow 255; what is written gets its name in a few steps


@dataclass(frozen=True)
class Output:
    """One clip's file (or frame folder) of a kind in SUFFIXES, and its contact sheet's, if one is wanted."""

    path: Path
    kind: str
    contact_sheet: Path | None = None


def choose_outputs(
    output: Path | None, kind: str | None, count: int, overwrite: bool, contact_sheet: Path | None = None
) -> tuple[Output, ...]:
    """One output per clip: `output` itself, or with several clips NAME-0.mp4, NAME-1.mp4 and so on. By default NAME is the
    first of clip, clip-2, clip-3, ... that is free and that no other process makes; with `overwrite` clip.

    The kind is `kind`, or what the name's suffix says; a name without one gets the kind's suffix, and without either is a
    frame folder. Raises InputError when name and kind disagree or an output exists (without `overwrite`) or cannot be written.
    """
    if kind is not None:
        check_output_type(kind)
    path = _free_name(kind, count, overwrite) if output is None else output
    for name in (path, contact_sheet):
        if name is not None:
            _check_name(name)
    kinds = {suffix: one for one, suffix in SUFFIXES.items()}
    suffix = "" if path.is_dir() else path.suffix.lower()
    if (suffix_kind := kinds.get(suffix)) is None:
        known = ", ".join(filter(None, kinds))
        raise InputError(f"cannot write {path}: unknown kind {path.suffix}; use {known}, or a folder's name for frames")
    chosen = kind or suffix_kind
    if suffix_kind == FRAMES and chosen != FRAMES and not path.is_dir():
        path = path.with_name(path.name + SUFFIXES[chosen])
    elif suffix_kind != chosen:
        raise InputError(
            f"{path} does not fit output type {chosen}; use {_renamed(path, chosen)}, or leave the type out"
        )
    if contact_sheet is not None and chosen == LATENT:
        raise InputError("a contact sheet shows frames, and output type latent makes none; leave one of them out")
    if contact_sheet is not None and contact_sheet.suffix.lower() != ".png":
        raise InputError(f"the contact sheet {shown(contact_sheet)} should end in .png, which it is a picture of")
    outputs: tuple[Output, ...] = (Output(path, chosen, contact_sheet),)
    if count > 1:
        outputs = tuple(
            Output(_numbered(path, index, count), chosen, contact_sheet and _numbered(contact_sheet, index, count))
            for index in range(count)
        )
    if contact_sheet is not None:
        _check_apart(outputs)
    for target in outputs:
        for file in (target.path, target.contact_sheet):
            if file is not None:
                check_writable(file, overwrite)
    return outputs


def check_output_type(kind: str, where: str = "") -> None:
    """Raises InputError, with `where` before it, for a kind of file that is not written."""
    if kind not in SUFFIXES:
        raise InputError(f"{where}output type {shown(repr(kind))} is unknown; use one of {', '.join(SUFFIXES)}")


def check_writable(path: Path, overwrite: bool) -> None:
    """Raises InputError unless `path` can be created (or replaced, with `overwrite`) on a disk that is not full."""
    check_target(path, overwrite)
    if path.is_dir():
        from phonofilm.media.folder import check_replaceable  # NumPy, which most runs need only later

        check_replaceable(path)
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.exists():
        raise InputError(f"cannot write {path}: {shown(folder)} is a link that leads nowhere; choose another folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    if free < LEAST_FREE:
        raise InputError(
            f"cannot write {path}: its disk is full ({format_size(free)} free); make room, or choose another folder"
        )


def _check_apart(outputs: tuple[Output, ...]) -> None:
    written = WrittenFiles()
    for target in outputs:
        for file, what in ((target.path, "clip"), (target.contact_sheet, "contact sheet")):
            if file is not None and (other := written.claim(file, what)) is not None:
                raise InputError(
                    f"{shown(file)}, a {what}, would be a {other} too, or lie in its folder; give each a name of its own"
                )


def named_output(text: str) -> Path:
    """The path of a name as it was typed. Raises InputError for "clip.mp4/", which names a folder and looks like a file."""
    kind = Path(text).suffix.lower()
    if text.endswith("/") and kind and kind in (*SUFFIXES.values(), ".png"):
        raise InputError(f"{shown(text)} ends like a file and with a slash, like a folder; leave out the slash")
    return Path(text)


def _free_name(kind: str | None, count: int, overwrite: bool) -> Path:
    name, number = Path("clip" + SUFFIXES[kind or "mp4"]), 1
    path = name
    while not overwrite and any(_is_taken(_numbered(path, index, count)) for index in range(count)):
        number += 1
        path = name.with_name(f"{name.stem}-{number}{name.suffix}")
    return path


def _is_taken(path: Path) -> bool:
    return os.path.lexists(path) or is_reserved(path)


def _check_name(path: Path) -> None:
    name = str(path)
    if printable(name) != name or "\n" in name or "\t" in name:
        raise InputError(
            f"the name {shown(path)} holds control characters or bytes that are not valid UTF-8, which can change a terminal "
            "and which players refuse; choose another"
        )
    if path.name == "-" or path.name.endswith(".") or path.name.lower() in (*filter(None, SUFFIXES.values()), ".png"):
        raise InputError(
            f"{shown(path)} is no name for a file; use for example clip.mp4, or a folder's name for frames"
        )
    if longest := [part for part in path.parts if len(part.encode()) > MAX_NAME_BYTES]:
        raise InputError(f"the name {shown(longest[0])} is longer than {MAX_NAME_BYTES} bytes; choose a shorter one")


def _renamed(path: Path, kind: str) -> Path:
    return path.with_suffix(SUFFIXES[kind])


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}-{index}{path.suffix}")
