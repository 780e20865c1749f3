"""What is sent to a server for the options of a clip: the fields, files and address of its API. Needs no extra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions, check_given_clip, check_options, parse_keyframe
from phonofilm.generation.prompt_file import Line
from phonofilm.lora.strength import NO_LORA
from phonofilm.untrusted import shown

# What an option is called in a request, where it has another name there.
FIELDS = {"steps": "num_inference_steps", "num_clips": "n", "lora": "loras"}
# The field of a request that holds the file of each option.
FILES = {
    "image": "input_reference",
    "last_image": "last_frame",
    "video": "video",
    "continue_from": "video",
    "audio": "audio",
    "voice": "voice",
}
_FIELD_OF = {**FIELDS, **FILES, "keyframe": "keyframes"}
_NO_WORDS = {"input_reference": "image", "last_frame": "last_image", "num_inference_steps": "steps"}
# Options of this machine's files, which a server knows nothing of.
HERE = ("output", "output_type", "contact_sheet")


@dataclass(frozen=True)
class ClipRequest:
    """A request for clips: where it is sent, its fields, and its files by field."""

    path: str
    fields: dict[str, Any]
    files: dict[str, Path]


def request_of(line: Line, beside: Mapping[str, Any]) -> ClipRequest:
    """The request for a line's clips, with the fields `beside` its own.

    Raises InputError, naming the line, for options that make no clip, that a server cannot obey, or whose files are not there.
    """
    try:
        return _request(line, beside)
    except InputError as error:
        raise InputError(f"{line.where}: {error}" if line.where else str(error)) from None


def in_options(message: str, line: Line) -> str:
    """What a server says of a line's request, with the options that were given in place of its fields.

    A field is the word that the message begins with; names that are no words of English are fields wherever they stand.
    """
    given = [field.name for field in fields(line.options) if getattr(line.options, field.name) is not None]
    names = _NO_WORDS | {_FIELD_OF.get(name, name): name for name in given if name not in (*HERE, "prompt")}
    pattern = rf"^(?:{'|'.join(names)})\b|\b(?:{'|'.join(_NO_WORDS)})\b"
    return re.sub(pattern, lambda found: _named(names[found[0]], line), message)


def _named(option: str, line: Line) -> str:
    """An option as it was given: on the command line, or as a key of a file's line."""
    return option if line.number else f"--{option.replace('_', '-')}"


def _request(line: Line, beside: Mapping[str, Any]) -> ClipRequest:
    options = line.options
    _refuse_what_is_not_made(options)
    prompt, _ = check_options(options)
    check_given_clip(options, () if options.video is None else ("video",))
    names = [field.name for field in fields(options) if field.name not in (*HERE, *FILES, "prompt", "keyframe", "lora")]
    given = {FIELDS.get(name, name): getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.lora is not None:
        given["loras"] = list(options.lora) or [NO_LORA]
    files = {field: path for name, field in FILES.items() if (path := getattr(options, name)) is not None}
    files |= {f"keyframes[{seconds:g}]": path for seconds, path in map(parse_keyframe, options.keyframe or ())}
    for name, path in files.items():
        if not path.is_file():
            raise InputError(in_options(f"{name.partition('[')[0]}: no file at {shown(path)}", line))
    task = "/edits" if options.retake is not None else "/extensions" if options.continue_from is not None else ""
    return ClipRequest(f"/v1/videos{task}", {"prompt": prompt, **given, **beside}, files)


def _refuse_what_is_not_made(options: ClipOptions) -> None:
    if options.output_type not in (None, "mp4"):
        raise InputError(
            f"output_type {options.output_type}: a server makes mp4; leave it out, or use phonofilm generate"
        )
    if options.output is not None and options.output.suffix.lower() != ".mp4":
        name = shown(options.output.name)
        raise InputError(f"output {name}: a server makes mp4; give a name that ends in .mp4, or use phonofilm generate")
    if options.contact_sheet is not None:
        raise InputError("contact_sheet: a server makes none; leave it out, or use phonofilm generate")
