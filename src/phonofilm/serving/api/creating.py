"""Routes that put a job into the queue: create, edit, extend, remix, and the one that waits for the file."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from phonofilm.errors import InputError
from phonofilm.serving.api.answers import ERRORS, answer, wait_for
from phonofilm.serving.api.body import RequestBody, read_body
from phonofilm.serving.api.content import send_variant
from phonofilm.serving.api.errors import ApiError, invalid, validation_error
from phonofilm.serving.api.fields import EditFields, ExtensionFields, RemixFields, SyncFields, VideoFields
from phonofilm.serving.api.lora_names import loras_of
from phonofilm.serving.api.media import FILE_FIELDS, content_hashes, store_media
from phonofilm.serving.api.objects import VideoObject
from phonofilm.serving.api.openapi import body_of, video_links
from phonofilm.serving.api.queue_again import drop_media, enter_job, remixed
from phonofilm.serving.api.services import Bearer, Cookie, MayWrite, Services, ServicesOf, is_still_let_in, no_valid_key
from phonofilm.serving.api.stretches import stretch_fields
from phonofilm.serving.api.translate import (
    check_drawing,
    check_enhancing,
    check_request_for,
    model_named,
    options_of,
    seeds_of,
)
from phonofilm.serving.jobs.job import COMPLETED, Job, JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import NewJob
from phonofilm.serving.jobs.roster import read_setting
from phonofilm.serving.security.access import Access
from phonofilm.serving.security.public_http import PublicHttp

router = APIRouter(tags=["videos"])
IdempotencyKey = Annotated[
    str | None, Header(max_length=255, description="The same key and request make one job, however often it is sent.")
]
LORA_SETTING = "loras"


@dataclass(frozen=True)
class JobEntry:
    """A request that puts a job into the queue, and who sends it."""

    request: Request
    services: Services
    access: Access
    idempotency_key: str | None = None


async def _entry_of(
    request: Request, services: ServicesOf, access: MayWrite, idempotency_key: IdempotencyKey = None
) -> JobEntry:
    return JobEntry(request, services, access, idempotency_key)


JobEntryOf = Annotated[JobEntry, Depends(_entry_of)]


@router.post(
    "/v1/videos",
    operation_id="createVideo",
    response_model=VideoObject,
    responses={**ERRORS, 200: video_links()},
    openapi_extra=body_of(VideoFields, FILE_FIELDS),
)
async def create(entry: JobEntryOf) -> Response:
    """Ask for a clip. The answer is a job; its clip can be fetched when its status is completed."""
    return await _answer_entry(entry, VideoFields)


@router.post(
    "/v1/videos/edits",
    operation_id="editVideo",
    response_model=VideoObject,
    responses={**ERRORS, 200: video_links()},
    openapi_extra=body_of(EditFields, FILE_FIELDS, {"video": {"id": "video_0"}, "start": 0.5, "end": 1.5}),
)
async def edit(entry: JobEntryOf) -> Response:
    """Make a stretch of a clip anew."""
    return await _answer_entry(entry, EditFields)


@router.post(
    "/v1/videos/extensions",
    operation_id="extendVideo",
    response_model=VideoObject,
    responses={**ERRORS, 200: video_links()},
    openapi_extra=body_of(ExtensionFields, FILE_FIELDS, {"video": {"id": "video_0"}}),
)
async def extend(entry: JobEntryOf) -> Response:
    """Go on from a clip: it becomes longer."""
    return await _answer_entry(entry, ExtensionFields)


@router.post(
    "/v1/videos/sync",
    operation_id="createVideoSync",
    response_class=Response,
    responses={**ERRORS, 200: {"content": {"video/mp4": {}}, "description": "The clip."}},
    openapi_extra=body_of(SyncFields, FILE_FIELDS),
)
async def create_sync(
    request: Request, services: ServicesOf, access: MayWrite, bearer: Bearer, cookie: Cookie
) -> Response:
    """Ask for one clip and wait for its file. When the client hangs up, the job is cancelled."""
    job, _ = await _enter(JobEntry(request, services, access), SyncFields)
    job = await wait_for(request, services, access, job, services.api.sync_timeout)
    if job.status != COMPLETED:
        message = job.error_message or f"the job was {job.status}"
        status = 400 if job.error_code == "invalid_request" else 500
        raise ApiError(status, message, job.error_code or job.status, headers={"X-Video-Id": job.id})
    if not await is_still_let_in(services, None if bearer is None else bearer.credentials, cookie):
        raise no_valid_key()
    return await run_in_threadpool(send_variant, services, job, "video", 0, None)


@router.post(
    "/v1/videos/{video_id}/remix",
    operation_id="remixVideo",
    response_model=VideoObject,
    responses={**ERRORS, 200: video_links()},
)
async def remix(
    video_id: str, fields: RemixFields, request: Request, services: ServicesOf, access: MayWrite
) -> Response:
    """The same clip with another prompt: its settings, inputs and seed are kept."""
    job = await run_in_threadpool(remixed, services, access, video_id, fields.prompt)
    return await answer(request, services, job)


def register_characters(target: APIRouter) -> None:
    """Routes of OpenAI's dialect that have no meaning for MOVA: a plain 501."""

    async def characters(request: Request) -> Response:
        raise ApiError(501, "characters are not offered: MOVA takes no references of persons", "not_implemented")

    for path in ("/v1/videos/characters", "/v1/videos/characters/{character_id}"):
        target.add_api_route(path, characters, methods=["GET", "POST", "DELETE"], include_in_schema=False)


register_characters(router)


async def _answer_entry(entry: JobEntry, kind: type[VideoFields]) -> Response:
    job, is_new = await _enter(entry, kind)
    headers = {} if is_new else {"Idempotency-Replayed": "true"}
    return await answer(entry.request, entry.services, job, headers)


async def _enter(entry: JobEntry, kind: type[VideoFields]) -> tuple[Job, bool]:
    """The request's job, and whether it is a new one."""
    body = await read_body(entry.request)
    if issubclass(kind, EditFields | ExtensionFields):
        _require_video(body)
    try:
        fields = kind.model_validate(body.fields)
    except ValidationError as error:
        raise validation_error(error, kind) from None
    make = partial(_make_entry, entry.services, entry.access, fields, body, entry.idempotency_key)
    return await asyncio.get_running_loop().run_in_executor(entry.services.entering, make)


def _make_entry(
    services: Services, access: Access, fields: VideoFields, body: RequestBody, idempotency_key: str | None
) -> tuple[Job, bool]:
    model = model_named(fields.model, services.worker.models)
    if fields.priority < access.best_priority:
        raise ApiError(
            403, f"this key's best priority is {access.best_priority}", "insufficient_scope", param="priority"
        )
    _check_callback(services, fields.callback_url)
    if fields.enhance_prompt:
        check_enhancing(services.worker, fields.prompt)
    if fields.draw_first_frame:
        check_drawing(services.worker, fields, body.uploads)
    loras = loras_of(fields.loras, services.worker.loras)
    request = JobRequest(
        options=options_of(fields),
        inputs={},
        loras=read_setting(services.database, LORA_SETTING) if loras is None else loras,
        seeds=seeds_of(fields, services.worker.limits.max_clips),
        warnings=body.warnings,
        enhance_prompt=bool(fields.enhance_prompt),
        draw_first_frame=bool(fields.draw_first_frame),
    )
    job_id = new_job_id()
    media = store_media(services, job_id, fields, body.uploads, access)
    try:
        hashes = content_hashes(services, media)
        request = replace(request, inputs=media.inputs, urls=media.urls, sources=media.sources, hashes=hashes)
        check_request_for(request, replace(services.checks(model, request), stretch=stretch_fields(fields)))
        new = NewJob(
            job_id,
            request,
            model,
            priority=fields.priority,
            nbytes=media.nbytes,
            idempotency_key=idempotency_key,
            body_hash=_hash(model, body) if idempotency_key is not None else None,
            callback_url=fields.callback_url,
        )
        job, is_new = enter_job(services, new, access)
    except BaseException:
        drop_media(services, media)
        raise
    if not is_new:
        drop_media(services, media)
    return job, is_new


def _hash(model: str, body: RequestBody) -> str:
    return hashlib.sha256(f"{model} {body.digest()}".encode()).hexdigest()


def _check_callback(services: Services, url: str | None) -> None:
    if url is None:
        return
    if not services.api.allow_callbacks:
        raise invalid("callbacks are off on this server", "callback_url", code="callback_not_allowed")
    try:
        PublicHttp(trusted=services.api.callback_hosts).check(url)
    except InputError as error:
        raise invalid(f"callback_url: {error}", "callback_url", code="callback_not_allowed") from None


def _require_video(body: RequestBody) -> None:
    """Clients that send {"id"} as text under the name video_id are understood too."""
    if "video_id" in body.fields:
        body.fields["video"] = body.fields.pop("video_id")
    given: Sequence[UploadFile | Any] = [
        body.uploads.get("video"),
        body.fields.get("video"),
        body.fields.get("video_url"),
    ]
    if all(one is None for one in given):
        raise invalid('video is missing: a file, or {"id": "video_..."}', "video", code="missing_field")
