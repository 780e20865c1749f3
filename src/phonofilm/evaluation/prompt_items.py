"""The prompts that clips were made from, and which clip belongs to which: the form of Verse-Bench's JSON file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.untrusted import parse_json, require_file, shown


@dataclass(frozen=True)
class PromptItem:
    """One item of a prompt file. prompt: the full text. speech: what is to be said; empty without speech."""

    id: str
    category: str
    prompt: str
    video_prompt: str = ""
    audio_prompt: str = ""
    speaker: str = ""
    speech: str = ""
    first_frame: str = ""


def read_prompt_items(path: Path) -> tuple[PromptItem, ...]:
    """The items of {category: {id: {prompt, video_prompt, audio_prompt, speech_prompt, first_frame_path}}}, in order.

    Raises InputError for another form, naming the item.
    """
    require_file(path, "prompt file")
    try:
        content = parse_json(path.read_bytes(), unique_keys=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no prompt file: {error}") from error
    if not isinstance(content, Mapping) or not all(isinstance(items, Mapping) for items in content.values()):
        raise InputError(f"{path} is no prompt file; expected {{category: {{id: {{prompt: ...}}}}}}")
    found = tuple(
        _item(path, str(category), str(key), item) for category, items in content.items() for key, item in items.items()
    )
    if not found:
        raise InputError(f"{path} holds no prompt")
    return found


def choose_sets(items: Sequence[PromptItem], sets: Sequence[str]) -> tuple[PromptItem, ...]:
    """The items of the named categories; all without a name. Raises InputError for a category that is not there."""
    known = list(dict.fromkeys(item.category for item in items))
    unknown = [name for name in sets if name not in known]
    if unknown:
        raise InputError(f"there is no set {unknown[0]!r} in the prompt file; there are {', '.join(known)}")
    return tuple(item for item in items if not sets or item.category in sets)


def item_of(name: str, items: Iterable[PromptItem]) -> PromptItem | None:
    """The item whose id the file name `name` begins with; the longest such id, so that 1 does not take 12's clip.

    Raises InputError when that id stands in two categories.
    """
    fitting = [item for item in items if name == item.id or (name.startswith(item.id) and not _goes_on(name, item.id))]
    found = max(fitting, key=lambda item: len(item.id), default=None)
    same = [shown(item.category) for item in fitting if found is not None and item.id == found.id]
    if len(same) > 1:
        raise InputError(
            f"clip {shown(name)}: the prompt file has its id in {' and in '.join(same)}; put the clip into a folder of its "
            "category's name, or give the prompts ids of their own"
        )
    return found


def _goes_on(name: str, key: str) -> bool:
    """Whether the name goes on within the same word or number behind the id."""
    return name[len(key)].isalnum()


def _item(path: Path, category: str, key: str, item: Any) -> PromptItem:
    if not key.strip():
        raise InputError(
            f"{path}: an item of {shown(category)} has an empty id; the id is how its clip's file is named"
        )
    if not isinstance(item, Mapping) or not isinstance(item.get("prompt"), str) or not item["prompt"].strip():
        raise InputError(f"{path}: item {key} of {category} has no text under 'prompt'")
    speech = item.get("speech_prompt") or {}
    if not isinstance(speech, Mapping) or not _is_text(speech.get("text")):
        raise InputError(
            f"{path}: item {shown(key)} of {shown(category)}: speech_prompt is {shown(repr(item['speech_prompt']))}; write "
            '{"text": "what is to be said"}'
        )
    return PromptItem(
        id=key,
        category=category,
        prompt=item["prompt"],
        video_prompt=_text(item.get("video_prompt")),
        audio_prompt=_text(item.get("audio_prompt")),
        speaker=_text(speech.get("speaker")),
        speech=_text(speech.get("text")),
        first_frame=_text(item.get("first_frame_path")),
    )


def _is_text(value: object) -> bool:
    """A text, several, or none."""
    return (
        value is None
        or isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    )


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(part) for part in value)
    return value if isinstance(value, str) else ""
