"""A job's uploads and addresses as files on this machine, for as long as the job runs, and the options that they are part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions, options_from_json
from phonofilm.lora.strength import NO_LORA
from phonofilm.serving.jobs.job import KEYFRAME, JobRequest, is_keyframe
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.security.sniffing import AUDIO, IMAGE, SNIFFED_BYTES, VIDEO, check_kind
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import Store

KINDS: dict[str, Literal["image", "video", "audio"]] = {
    "image": IMAGE,
    "last_image": IMAGE,
    "video": VIDEO,
    "continue_from": VIDEO,
    "audio": AUDIO,
    "voice": AUDIO,
}


def input_files(
    request: JobRequest, settings: WorkerSettings, store: Store, stack: ExitStack, web: PublicHttp
) -> dict[str, Path]:
    """A path for each option that takes a file; they last as long as `stack`. Raises InputError for a URL of no use."""
    files = {option: stack.enter_context(store.as_file(name)) for option, name in request.inputs.items()}
    if request.urls and not settings.allow_urls:
        raise InputError("URLs are not fetched by this server; send the file itself")
    for option, url in request.urls.items():
        content = web.fetch(url, settings.limits.max_upload_bytes)
        wanted = IMAGE if is_keyframe(option) else KINDS[option]
        kind = check_kind(content[:SNIFFED_BYTES], wanted, option)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="phonofilm-")))
        files[option] = folder / f"{option}{kind.suffix}"
        files[option].write_bytes(content)
    return files


def options_with_files(
    options: Mapping[str, Any], files: Mapping[str, Path], loras: Sequence[str] | None, settings: WorkerSettings
) -> ClipOptions:
    """A request's options with the paths of its files and of the operator's LoRAs. Raises InputError."""
    given: dict[str, Any] = {name: str(path) for name, path in files.items() if not is_keyframe(name)}
    keyframes = [f"{name.removeprefix(KEYFRAME)}={path}" for name, path in files.items() if is_keyframe(name)]
    if keyframes:
        given["keyframe"] = keyframes
    read = options_from_json({**options, **given}, "request")
    if loras is None:
        return read
    texts = []
    for text in loras:
        name, colon, strength = text.partition(":")
        texts.append(text if text == NO_LORA else settings.loras[name] + colon + strength)
    return replace(read, lora=tuple(texts) or None)
