"""A file of prompts: a clip a line, as text or JSON. What is done with the lines is elsewhere; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions, options_from_json
from phonofilm.generation.outputs import SUFFIXES, check_output_type
from phonofilm.untrusted import file_fault, parse_json, shown


@dataclass(frozen=True)
class Line:
    """One clip (or num_clips of them) of the file: `where` names its line, `number` counts from 1 (0: of no file)."""

    where: str
    options: ClipOptions
    number: int = 0


def read_lines(path: Path, common: ClipOptions) -> list[Line]:
    """The clips of a file: JSON objects in .jsonl, else one prompt a line; empty lines are passed over.

    `common`: what the command asks of every clip, where its line says nothing; its output is the folder for the clips,
    which are called after their line's number. Raises InputError, naming the line, for one that cannot be understood.
    """
    if (fault := file_fault(path)) is not None:
        raise InputError(f"cannot read prompts from {shown(path)}: {fault}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)} is no text in UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read prompts from {shown(path)}: {error.strerror}") from error
    if "\0" in text:
        raise InputError(f"{shown(path)} holds NUL characters, as text in UTF-16 does; save it as UTF-8")
    as_json = path.suffix.lower() == ".jsonl"
    folder = common.output or Path(path.stem)
    kind = common.output_type or "mp4"
    check_output_type(kind)
    if folder.suffix.lower() in filter(None, SUFFIXES.values()) and not folder.is_dir():
        raise InputError(
            f"with prompts=, output= names the folder for the clips, and {shown(folder)} ends like a file; leave out "
            f"{folder.suffix}"
        )
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        own = _json_line(line, where) if as_json else ClipOptions(prompt=line.strip())
        if own.output_type is not None:
            check_output_type(own.output_type, f"{where}: ")
        # A line's own output is relative to the folder; without one it is called after the line.
        output = f"{number:04d}{SUFFIXES[own.output_type or kind]}" if own.output is None else own.output
        for name, asked in (("output", own.output), ("contact_sheet", own.contact_sheet)):
            if asked is not None and not _stays_in(folder, asked):
                raise InputError(f"{where}: {name} {shown(asked)} lies outside the folder {folder}; give a name in it")
        own = replace(own, output=folder / output)
        if own.contact_sheet is not None:
            own = replace(own, contact_sheet=folder / own.contact_sheet)
        lines.append(Line(where, own.over(replace(common, output_type=None if own.output else kind)), number))
    if not lines:
        raise InputError(f"{path} holds no prompts")
    return lines


def _stays_in(folder: Path, asked: Path) -> bool:
    """Whether a name from a file leads to something in the folder, links followed."""
    if asked.is_absolute() or ".." in asked.parts or "\0" in str(asked):
        return False
    try:
        return (folder / asked).parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links, or a name that is too long
        return False


def _json_line(line: str, where: str) -> ClipOptions:
    try:
        content = parse_json(line, unique_keys=True)
        if isinstance(content, dict) and "model" in content:
            raise InputError(f"{where}: one model makes all lines; leave its name out, and give it once as model=")
        return options_from_json(content, where)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where} is not JSON that can be read: {error}") from error
