"""The settings that made a clip, as text inside the file: written as JSON, read back from every format we write.

`movie`, `gif` and `folder` put the text where their format has a place for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MediaError
from phonofilm.untrusted import FOLDER_FAULT, file_fault, parse_json, read_json_file, shown

TITLE_LENGTH = 100
FOLDER_FILE = "metadata.json"


def to_text(metadata: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON (on one line without `indent`), valid UTF-8. Raises InputError for values that JSON has no word for."""
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the clip's metadata must be plain JSON values (text, numbers, lists, dicts): {error}"
        ) from error
    # A lone surrogate has no UTF-8; its backslash form is valid JSON for the same character.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def from_text(text: str) -> dict[str, Any] | None:
    """The settings, or None when the text is something else."""
    try:
        settings = parse_json(text)
    except ValueError:
        return None
    return settings if isinstance(settings, dict) else None


def title(metadata: Mapping[str, Any]) -> str | None:
    """The prompt, on one line and short enough for a player's window."""
    prompt = metadata.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        return None
    line = " ".join(prompt.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def tags(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What goes into a container: `comment` (the settings) and `title`; nothing for a clip without settings."""
    if not metadata:
        return {}
    name = title(metadata)
    return {"comment": to_text(metadata)} | ({"title": name} if name else {})


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The settings stored in a clip, picture or frame folder that Phonofilm wrote.

    Raises InputError when there is no such file, MediaError when it carries no settings or cannot be read.
    """
    path = Path(path)
    settings = from_text(_stored_text(path) or "")
    if settings is None:
        raise MediaError(f"{path} carries no settings: it was not made by Phonofilm, or a tool has removed its comment")
    return settings


def _stored_text(path: Path) -> str | None:
    fault = file_fault(path)
    if fault == FOLDER_FAULT:
        return _folder_text(path)
    if fault is not None:
        raise InputError(f"no file at {shown(path)}: {fault}")
    if path.suffix.lower() in (".png", ".gif"):
        return _image_text(path)
    from phonofilm.media.opening import comment, opened

    with opened(path) as container:
        return comment(container)


def _folder_text(path: Path) -> str | None:
    stored = read_folder_file(path)
    return json.dumps(stored["settings"]) if stored.get("settings") else None


def read_folder_file(folder: Path) -> dict[str, Any]:
    """What a frame folder's metadata.json holds; empty without one. Raises MediaError for a damaged one."""
    file = folder / FOLDER_FILE
    if not file.is_file():
        return {}
    try:
        stored = read_json_file(file)
    except (ValueError, OSError) as error:
        raise MediaError(f"{file} is damaged: {error}") from error
    if not isinstance(stored, dict):
        raise MediaError(f"{file} is damaged: it holds a {type(stored).__name__} instead of an object")
    return stored


def _image_text(path: Path) -> str | None:
    from phonofilm.media.images import open_image

    with open_image(path) as image:
        text = image.info.get("comment") or image.info.get("Comment")
    if not isinstance(text, str | bytes):
        return None
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
