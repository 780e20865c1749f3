"""A request's pictures, clips and sounds: uploads, data URLs, other jobs' clips and addresses, brought into the store."""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from starlette.datastructures import UploadFile

from phonofilm.errors import InputError, MediaError
from phonofilm.files import file_hash
from phonofilm.serving.api.errors import ApiError, invalid, not_found
from phonofilm.serving.api.fields import ExtensionFields, VideoFields
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.translate import clip_field
from phonofilm.serving.api.uploads import UPLOAD_ID, find_upload
from phonofilm.serving.jobs.clip_rows import clip_id, job_and_number
from phonofilm.serving.jobs.job import KEYFRAME, is_keyframe
from phonofilm.serving.jobs.job_queue import find
from phonofilm.serving.library.clips import LibraryClip, find_clips
from phonofilm.serving.security.access import Access
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.security.sniffing import AUDIO, IMAGE, SNIFFED_BYTES, VIDEO, MediaKind, check_kind
from phonofilm.serving.store.interface import INPUTS
from phonofilm.serving.studio.media_work import cut_clip
from phonofilm.serving.worker.failures import without_paths
from phonofilm.untrusted import parse_number, shown

FILE_FIELDS = {"input_reference": IMAGE, "last_frame": IMAGE, "video": VIDEO, "audio": AUDIO, "voice": AUDIO}
MOST_KEYFRAMES = 16
REFERENCE_KEYS = ("id", "file_id", "image_url", "video_url", "audio_url", "url")
_KEYFRAME_FILE = re.compile(r"keyframes\[([^\[\]]{1,20})\]")
URL_FIELDS = {"reference_url": "input_reference", "video_url": "video"}
_DATA_URL = re.compile(r"data:[\w.+-]{0,100}/?[\w.+-]{0,100}(?:;[\w=.+-]{0,100})*;base64,", re.ASCII | re.IGNORECASE)


@dataclass
class StoredMedia:
    """Stored files and addresses by option, the clips of the library that files were copied from, and the files' bytes."""

    inputs: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    nbytes: int = 0


def store_media(
    services: Services, job_id: str, fields: VideoFields, uploads: Mapping[str, UploadFile], access: Access
) -> StoredMedia:
    """Keep everything that the request brings. Raises ApiError for what is not taken; then nothing is kept."""
    keeping = _Keeping(services, job_id, access)
    options = {name: name for name in FILE_FIELDS} | {
        "input_reference": "image",
        "last_frame": "last_image",
        "video": clip_field(fields),
    }
    try:
        for name, upload in uploads.items():
            if (keyframe := _KEYFRAME_FILE.fullmatch(name)) is not None:
                keeping.keep(keyframe_option(keyframe[1]), "keyframes", upload.file)
                continue
            if name not in FILE_FIELDS:
                known = f"{', '.join(FILE_FIELDS)} or keyframes[SECONDS]"
                raise invalid(f"a file named {shown(name)} is not expected; use {known}", shown(name))
            keeping.keep(options[name], name, upload.file)
        for seconds, given in (fields.keyframes or {}).items():
            keeping.keep_reference(keyframe_option(seconds), "keyframes", given)
        for name in FILE_FIELDS:
            if (given := getattr(fields, name)) is not None:
                if name in uploads:
                    raise invalid(f"{name} was given as a file and as a field; give one", name)
                keeping.keep_reference(options[name], name, given)
        for name, target in URL_FIELDS.items():
            if (url := getattr(fields, name)) is not None:
                keeping.keep_url(options[target], name, url)
        if sum(is_keyframe(option) for option in (*keeping.media.inputs, *keeping.media.urls)) > MOST_KEYFRAMES:
            raise invalid(f"keyframes: more than {MOST_KEYFRAMES}", "keyframes")
        if isinstance(fields, ExtensionFields) and fields.continue_at is not None:
            keeping.cut_at(fields.continue_at)
    except BaseException:
        for stored in keeping.media.inputs.values():
            services.store.delete(stored)
        raise
    return keeping.media


def content_hashes(services: Services, media: StoredMedia) -> dict[str, str]:
    """SHA-256 of the stored files by option."""
    found = {}
    for option, name in media.inputs.items():
        with services.store.as_file(name) as file:
            found[option] = file_hash(file)
    return found


def check_not_in_trash(clips: Sequence[LibraryClip], param: str) -> None:
    """Raises ApiError (409) where one of the clips that something is to be made from is about to be deleted."""
    if any(clip.trashed_at is not None for clip in clips):
        raise ApiError(409, "this clip is in the trash; put it back first", "clip_in_trash", param=param)


def keyframe_option(seconds: str) -> str:
    """The name under which a request holds the keyframe of a time. Raises ApiError for text that is no time."""
    try:
        time = parse_number(seconds)
    except ValueError:
        time = -1.0
    if not 0 <= time < 1e6:
        raise invalid(f"keyframes: {shown(repr(seconds))} is no time in seconds; use for example 3.5", "keyframes")
    return f"{KEYFRAME}{time:g}"


def _kind(name: str) -> str:
    return IMAGE if name == "keyframes" else FILE_FIELDS[name]


def _checked_kind(head: bytes, name: str) -> MediaKind:
    try:
        return check_kind(head, _kind(name), name)
    except InputError as error:
        raise invalid(str(error), name, code="unsupported_media") from None


@dataclass
class _Keeping:
    """Brings one request's media into the store, option by option."""

    services: Services
    job_id: str
    access: Access
    media: StoredMedia = field(default_factory=StoredMedia)

    def keep(self, option: str, name: str, stream: BinaryIO) -> None:
        self._once(option, name)
        stream.seek(0)
        kind = _checked_kind(stream.read(SNIFFED_BYTES), name)
        stream.seek(0)
        with TemporaryDirectory(prefix="phonofilm-") as folder:
            file = Path(folder) / "upload"
            with file.open("wb") as target:
                shutil.copyfileobj(stream, target, 2**20)
            self._put(option, kind.suffix, file)

    def keep_reference(self, option: str, name: str, given: str | dict[str, Any]) -> None:
        if isinstance(given, dict):
            if unknown := given.keys() - {*REFERENCE_KEYS, "type"}:
                raise invalid(
                    f"{name} has an unknown key, {shown(min(unknown))}; it takes one of {', '.join(REFERENCE_KEYS)}",
                    name,
                )
            inner = [given.get(key) for key in REFERENCE_KEYS]
            texts = [one.get("url") if isinstance(one, dict) else one for one in inner if one is not None]
            if len(texts) != 1 or not isinstance(texts[0], str):
                raise invalid(f'{name}: expected {{"id": ...}} or {{"image_url": ...}}', name)
            given = texts[0]
        if given[:5].lower() == "data:":
            self._keep_data(option, name, given)
        elif given[:8].lower().startswith(("http://", "https://")):
            self.keep_url(option, name, given)
        elif re.fullmatch(r"video_\w{1,64}", given):
            self._keep_clip(option, name, given)
        elif UPLOAD_ID.fullmatch(given):
            self._keep_upload(option, name, given)
        else:
            raise invalid(
                f"{name}: expected a file, a data URL, or the id of a video or an upload; paths are not taken", name
            )

    def keep_url(self, option: str, name: str, url: str) -> None:
        if not self.services.worker.allow_urls:
            raise invalid("URLs are not fetched by this server; send the file itself", name, code="url_not_allowed")
        self._once(option, name)
        try:
            PublicHttp().check(url)
        except InputError as error:
            raise invalid(str(error), name, code="url_not_allowed") from None
        self.media.urls[option] = url

    def cut_at(self, seconds: float) -> None:
        """Let the clip that is gone on from end at a moment; the rest of it is not kept."""
        whole = self.media.inputs.get("continue_from")
        if whole is None:
            raise invalid("continue_at: send the clip as a file or by its id, not by URL", "continue_at")
        target = f"{INPUTS}/{self.job_id}/continue_from-cut.mp4"
        try:
            settings = self.services.worker
            self.services.media.run(cut_clip, settings.store, whole, target, seconds, settings.limits)
        except (InputError, MediaError) as error:
            said = without_paths(str(error), settings.store, settings.loras)
            raise invalid(f"continue_at: {said}", "continue_at") from None
        self.media.nbytes -= self.services.store.size(whole)
        self.services.store.delete(whole)
        self._kept("continue_from", target)

    def _keep_data(self, option: str, name: str, url: str) -> None:
        import io

        match = _DATA_URL.match(url)
        if match is None:
            raise invalid(f"{name}: expected data:TYPE;base64,...", name)
        try:
            content = base64.b64decode(url[match.end() :], validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{name}: the data URL is no base64", name) from None
        self.keep(option, name, io.BytesIO(content))

    def _keep_clip(self, option: str, name: str, video_id: str) -> None:
        self._once(option, name)
        if _kind(name) == IMAGE:
            raise invalid(f"{name}: expected a picture, and {shown(video_id)} is a clip", name)
        job_id, number = job_and_number(video_id) or (video_id, 0)
        job = find(self.services.database, job_id, self.access)
        if job is None:
            raise not_found(video_id)
        if number >= len(job.outputs):
            raise ApiError(409, f"{job.id} has no such clip: it is {job.status}", "video_not_ready", param=name)
        name_here = clip_id(job_id, number)
        check_not_in_trash(find_clips(self.services.database, self.access, [name_here]), name)
        target = f"{INPUTS}/{self.job_id}/{option}.mp4"
        self.services.store.copy(job.outputs[number]["video"], target)
        self.media.sources[option] = name_here
        self._kept(option, target)

    def _keep_upload(self, option: str, name: str, upload: str) -> None:
        self._once(option, name)
        stored = find_upload(self.services, self.access, upload)
        if stored is None:
            raise ApiError(404, f"{name} is not here any more; send it again", "upload_not_found", param=name)
        kind = _checked_kind(b"".join(self.services.store.read(stored, 0, SNIFFED_BYTES)), name)
        target = self._target(option, kind.suffix)
        self.services.store.copy(stored, target)
        self._kept(option, target)

    def _put(self, option: str, suffix: str, file: Path) -> None:
        target = self._target(option, suffix)
        self.services.store.put(target, file)
        self._kept(option, target)

    def _target(self, option: str, suffix: str) -> str:
        return f"{INPUTS}/{self.job_id}/{option.replace(KEYFRAME, 'keyframe-')}{suffix}"

    def _kept(self, option: str, target: str) -> None:
        self.media.inputs[option] = target
        self.media.nbytes += self.services.store.size(target)

    def _once(self, option: str, name: str) -> None:
        if option in self.media.inputs or option in self.media.urls:
            raise invalid(f"{name}: more than one was given", name)
