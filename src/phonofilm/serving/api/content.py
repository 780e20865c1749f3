"""Sending a job's files: whole, or the part that a Range header asks for."""

from __future__ import annotations

import re

from fastapi.responses import Response, StreamingResponse

from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.job import COMPLETED, Job
from phonofilm.serving.store.interface import NotStored

MEDIA_TYPES = {".mp4": "video/mp4", ".webp": "image/webp", ".jpg": "image/jpeg"}
_RANGE = re.compile(r"bytes=(\d{0,4000})-(\d{0,4000})", re.ASCII | re.IGNORECASE)


def send_variant(
    services: Services,
    job: Job,
    variant: str,
    index: int,
    wanted: str | None,
    has: str | None = None,
    of: str | None = None,
) -> Response:
    """A file of a finished clip, or 304 for a client that has it.

    `wanted` is the Range header, `has` is If-None-Match, `of` is If-Range.

    Raises ApiError: 409 while the clip is not made, 404 when it has expired, 416 for a range outside the file.
    """
    if variant == "preview":
        return _preview(services, job)
    count = len(job.request.seeds)
    if index >= count:
        raise invalid(f"index {index}: there are {count} clips, and the first is 0", "index")
    if job.status != COMPLETED and index >= len(job.outputs):
        reason = f": {job.error_message}" if job.error_message else ""
        which = f"clip {index} of " if count > 1 else ""
        raise ApiError(
            409, f"{which}{job.id} is not made: it is {job.status}{reason}", "video_not_ready", param="video_id"
        )
    if not job.outputs:
        raise ApiError(404, f"the clip of {job.id} has expired", "video_expired", param="video_id")
    name = job.outputs[index].get(variant)
    if name is None:
        raise invalid(f"variant {variant!r} is unknown; use {', '.join(job.outputs[index])}", "variant")
    try:
        size = services.store.size(name)
    except NotStored:
        raise ApiError(404, f"the file of {job.id} is gone", "video_expired", param="video_id") from None
    suffix = f".{name.rpartition('.')[2]}"
    tag = f'"{name.rpartition("/")[2]}"'
    part = _part(range_of(wanted, of, tag), size)
    start, end = part or (0, size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f'attachment; filename="{job.id}{f"-{index}" if index else ""}{suffix}"',
        "ETag": tag,
        # Kept by the one who may see it, and asked for again by its tag: a key may have been revoked.
        "Cache-Control": "private, no-cache",
    }
    if has is not None and {tag, "*"} & {one.strip().removeprefix("W/") for one in has.split(",")}:
        return Response(None, 304, {name: headers[name] for name in ("ETag", "Cache-Control")})
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    pieces = services.store.read(name, start, end - start)
    return StreamingResponse(pieces, 200 if part is None else 206, headers, MEDIA_TYPES[suffix])


def range_of(wanted: str | None, of: str | None, tag: str) -> str | None:
    """The Range header, where it is meant for the file with this ETag; None for another, which is sent whole (RFC 9110, 13.1.5).

    `of` is the If-Range header, the ETag of the file of which the client has a part. A weak tag, and a date, which no answer
    here carries, are never that of this file.
    """
    return wanted if of is None or of.strip() == tag else None


def preview_of(services: Services, job: Job) -> bytes | None:
    """What the clip of a running job will become, as far as that can be seen: a WebP picture, or None where there is none."""
    name = job.preview_shown
    if name is None:
        return None
    try:
        return b"".join(services.store.read(name, 0, services.store.size(name)))
    except NotStored:
        return None


def _preview(services: Services, job: Job) -> Response:
    picture = preview_of(services, job)
    if picture is None:
        raise ApiError(404, f"{job.id} has no preview: it is {job.status}", "no_preview", param="variant")
    return Response(picture, media_type=MEDIA_TYPES[".webp"])


def _part(wanted: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) that a Range header asks for; None for the whole file.

    A header of another unit, of several ranges or that is none is ignored, as RFC 9110 (14.2) has it.
    """
    match = None if wanted is None else _RANGE.fullmatch(wanted.strip())
    first, last = (match[1], match[2]) if match else ("", "")
    if not (first or last) or (first and last and int(last) < int(first)):
        return None
    if first:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise ApiError(416, "the range is outside the file", "invalid_range", headers=headers)
    return start, end
