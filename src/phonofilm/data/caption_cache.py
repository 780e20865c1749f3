"""Captions without clips, with the frames some of them give, as a cache: all that a distillation needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from phonofilm.data.cache import Entry, Index, write_around, write_given_frames
from phonofilm.data.cache_keys import autoencoder_hash, given_key, text_hash, text_key, white_key
from phonofilm.data.encoders import Encoders
from phonofilm.data.windows import Bucket
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.media import load_image
from phonofilm.media.images import fit_image
from phonofilm.pipeline.conditions import clean_prompt, image_tensor
from phonofilm.untrusted import file_fault, parse_json, require_file, shown

KEYS = ("caption", "image", "last_image")
TEXT, JSON_LINES = ".txt", (".jsonl", ".ndjson")
EXAMPLE = '{"caption": "a dog barks", "image": "dog.png"}'


@dataclass(frozen=True)
class Caption:
    """A caption, and the files of its first and last frame if it has any. where: its file and line, for messages."""

    caption: str
    image: Path | None = None
    last_image: Path | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class CaptionsBuilt:
    """How many entries the cache has, and of how many the frames were encoded now."""

    entries: int
    frames: int


def read_captions(path: Path) -> tuple[Caption, ...]:
    """Captions of a file: .txt has one a line, .jsonl and .ndjson an object a line, whose pictures lie relative to the file.

    Raises InputError, also for another ending, and for JSON in a .txt.
    """
    require_file(path, "captions")
    ending = path.suffix.lower()
    if ending not in (TEXT, *JSON_LINES):
        raise InputError(
            f"{shown(path)} is no file of captions; expected a name that ends in {TEXT}, with a caption a line, or in "
            f"{' or '.join(JSON_LINES)}, with an object a line, such as {EXAMPLE}"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); expected captions, one a line, or JSONL") from error
    rows = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    read = _from_text if ending == TEXT else _from_json
    found = tuple(read(line, path, number) for number, line in rows)
    if not found:
        raise InputError(f"{path} holds no captions; expected one a line, or JSONL")
    return found


def _from_text(line: str, path: Path, number: int) -> Caption:
    if line.startswith("{"):
        try:
            parse_json(line)
        except ValueError:
            return Caption(line)
        raise InputError(
            f"{path}, line {number} is a JSON object, and {TEXT} has a caption a line; call the file "
            f"{path.with_suffix(JSON_LINES[0]).name}"
        )
    return Caption(line)


def _from_json(line: str, path: Path, number: int) -> Caption:
    where = f"{path}, line {number}"
    try:
        content = parse_json(line, unique_keys=True)
    except ValueError as error:
        raise InputError(f"{where} cannot be read as JSON: {error}; expected for example {EXAMPLE}") from error
    if (
        not isinstance(content, dict)
        or not set(content) <= set(KEYS)
        or not all(isinstance(value, str | None) for value in content.values())
    ):
        raise InputError(f"{where}: {shown(repr(content))}; expected text under some of {', '.join(KEYS)}")
    given = {key: value for key, value in content.items() if value is not None}
    if not given.get("caption", "").strip():
        raise InputError(f"{where} has no caption")
    images = {key: path.parent / given[key] for key in KEYS[1:] if key in given}
    for key, image in images.items():
        if (fault := file_fault(image)) is not None:
            raise InputError(f"{where}: no {key} at {shown(image)}: {fault}")
    if set(images) == {"last_image"}:
        raise InputError(f"{where} has a last_image and no image; give both")
    return Caption(given["caption"], **images, where=where)


def update_caption_cache(
    folder: Path, captions: Sequence[Caption], bucket: Bucket, rate: Fraction, model: str, encoders: Encoders
) -> CaptionsBuilt:
    """Bring the cache in `folder` to exactly these captions. Interrupted, it goes on from where it was."""
    geometry = encoders.geometry(bucket, rate)
    autoencoders, texts = autoencoder_hash(encoders.layout), text_hash(encoders.layout)
    white = white_key(bucket, rate, autoencoders)
    entries, made = [], 0
    for number, one in enumerate(captions, start=1):
        files = [file for file in (one.image, one.last_image) if file is not None]
        key = given_key(files, bucket, rate, autoencoders) if files else white
        if files:

            def encode(files: Sequence[Path] = files, where: str = one.where) -> Tensor:
                return encoders.given_frames(geometry, *(_pixels(file, bucket, where) for file in files))

            made += write_given_frames(folder, key, encode)
        caption = clean_prompt(one.caption)
        entries.append(Entry(f"caption {number}", str(bucket), caption, key, text_key(caption, texts), True, 1.0))
    whites = {str(bucket): white}
    index = Index(model, autoencoders, str(rate), tuple(entries), whites, text_key("", texts), captions_only=True)
    write_around(folder, index, encoders)
    return CaptionsBuilt(len(entries), made)


def _pixels(file: Path, bucket: Bucket, where: str) -> Tensor:
    try:
        image = load_image(file)
    except PhonofilmError as error:
        raise InputError(f"{where}: {error}") from error
    return image_tensor(fit_image(image, bucket.height, bucket.width))
