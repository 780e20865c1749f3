"""A job's uploads and addresses as files on this machine, for as long as the job runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from phonofilm.errors import InputError
from phonofilm.serving.jobs.job import JobRequest, is_keyframe
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
        content = web.fetch(url, settings.max_upload_bytes)
        wanted = IMAGE if is_keyframe(option) else KINDS[option]
        kind = check_kind(content[:SNIFFED_BYTES], wanted, option)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="phonofilm-")))
        files[option] = folder / f"{option}{kind.suffix}"
        files[option].write_bytes(content)
    return files
