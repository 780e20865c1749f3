"""What the media process does with a file that is brought into the library: read it whole, and make what the library needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MediaError
from phonofilm.files import file_hash
from phonofilm.generation.options import options_from_json
from phonofilm.generation.provenance import OWN_STUDENT, SETTINGS, TEACHERS
from phonofilm.lora.strength import tell_strength
from phonofilm.media import read_clip, save_clip
from phonofilm.media.opening import opened, picture_stream, sound_stream
from phonofilm.serving.worker.clip_files import clip_facts, write_pictures

# What every browser plays.
PLAYED_PICTURE, PLAYED_SOUND = ("h264",), ("aac", "mp3")
LONGEST_PROMPT = 100_000
WHOLE = tell_strength(1.0)


@dataclass(frozen=True)
class ReadFile:
    """A file that was read. files: by variant; options: those of `phonofilm generate`; missing: what it was made from."""

    sha256: str
    files: dict[str, Path]
    made: dict[str, Any]
    options: dict[str, Any]
    model: str
    seed: int | None
    missing: list[str]


def read_import(source: Path, folder: Path) -> ReadFile:
    """Read a clip whole, and write it as browsers play it, with its pictures, into `folder`. Raises MediaError, InputError."""
    clip = read_clip(source)
    target = folder / "clip.mp4"
    if _is_played(source):
        shutil.copyfile(source, target)
    else:
        save_clip(clip, target)
    settings = clip.metadata
    options = _options(settings)
    seed, model = settings.get("seed"), settings.get("model")
    return ReadFile(
        file_hash(source),
        {"video": target, **write_pictures(clip, folder)},
        clip_facts(clip),
        options,
        model if isinstance(model, str) and 0 < len(model) <= 200 else "",
        seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 else None,
        _missing(settings),
    )


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded settings that are options; none of them when one is of no use, for the file may be anybody's."""
    prompt = settings.get("prompt")
    kept = {"prompt": prompt[:LONGEST_PROMPT] if isinstance(prompt, str) else ""}
    found = {name: settings[name] for name in SETTINGS if name in settings and name not in ("prompt", "seed")}
    if found.get("audio_guidance_scale") == found.get("guidance_scale"):
        found.pop("audio_guidance_scale", None)  # it followed, and does so again if the other is changed
    if _has_own_student(settings):
        for name in (
            *TEACHERS,
            "steps",
        ):  # what the student was distilled for; given, they would mean the model without it
            found.pop(name, None)
    try:
        options_from_json(found, "settings")
    except InputError:
        return kept
    return kept | found


def _missing(settings: Mapping[str, Any]) -> list[str]:
    """What the clip was made from beside its settings, as sentences."""
    words = {
        "image": "first frame", "last_image": "last frame", "video": "given film", "audio": "given sound",
        "continue_from": "clip that it goes on from", "voice": "voice",
    }  # fmt: skip
    options = [one.get("option") for one in _entries(settings, "inputs")]
    missing = [f"the {words[one]} that it was made with" for one in options if one in words]
    missing += ["a key frame that it was made with" for _ in _entries(settings, "keyframes")]
    loras = [] if _has_own_student(settings) else _entries(settings, "loras")
    return missing + ["a LoRA that it was made with" for _ in loras]


def _has_own_student(settings: Mapping[str, Any]) -> bool:
    """Whether the clip was made by the model's own student of few steps, as clips without options are: no file is missing."""
    return [(one.get("path"), one.get("strength")) for one in _entries(settings, "loras")] == [(OWN_STUDENT, WHOLE)]


def _entries(settings: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = settings.get(name)
    return [one for one in found if isinstance(one, dict)][:20] if isinstance(found, list) else []


def _is_played(source: Path) -> bool:
    with opened(source) as container:
        picture, sound = picture_stream(container), sound_stream(container)
        if picture is None:
            raise MediaError("the file has no picture")
        return (
            "mp4" in container.format.name
            and picture.codec_context.codec.canonical_name in PLAYED_PICTURE
            and picture.codec_context.pix_fmt == "yuv420p"
            and (sound is None or sound.codec_context.codec.canonical_name in PLAYED_SOUND)
        )
