"""Routes about jobs that are there: list, look, follow, fetch, change, move, cancel, delete."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse

from phonofilm.serving.api.answers import (
    ERRORS,
    LAST_LOOK_SECONDS,
    LOOK_SECONDS,
    answer,
    closing_event,
    described,
    find_or_404,
)
from phonofilm.serving.api.changing import changed_request
from phonofilm.serving.api.content import send_variant
from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.fields import NO_UNDERSCORES, ChangeFields, MoveFields
from phonofilm.serving.api.objects import VideoDeleted, VideoList, VideoObject
from phonofilm.serving.api.openapi import video_links
from phonofilm.serving.api.services import Bearer, Cookie, MayRead, MayWrite, Services, ServicesOf, is_still_let_in
from phonofilm.serving.jobs.job import ENDED, Job
from phonofilm.serving.jobs.job_queue import NotWaiting, cancel_job, edit_job, page, waiting
from phonofilm.serving.jobs.moving import PriorityTooGood, move_job
from phonofilm.serving.jobs.sweep import delete_job
from phonofilm.serving.security.access import Access

router = APIRouter(tags=["videos"], responses=ERRORS)
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
Variant = Literal["video", "thumbnail", "spritesheet", "preview"]
SSE_SECONDS = 15


@router.get("/v1/videos", operation_id="listVideos", response_model=VideoList)
def list_videos(
    request: Request,
    services: ServicesOf,
    access: MayRead,
    after: Annotated[str | None, Query(max_length=100, description="The id that the page before ended with.")] = None,
    limit: Annotated[int, Query(ge=1, le=100), NO_UNDERSCORES] = 20,
    order: Literal["asc", "desc"] = "desc",
    status: Status | None = None,
) -> VideoList:
    """Jobs, the newest first."""
    found = page(services.database, access, after=after, limit=limit, newest_first=order == "desc", status=status)
    if found is None:
        raise invalid("after: there is no such video", "after")
    return _listed(services, found[0], str(request.base_url), found[1])


@router.get("/v1/queue", operation_id="listQueue", response_model=VideoList)
def list_queue(request: Request, services: ServicesOf, access: MayRead) -> VideoList:
    """The jobs that wait, the next one first."""
    return _listed(services, waiting(services.database, access), str(request.base_url), False)


@router.get(
    "/v1/videos/{video_id}", operation_id="getVideo", responses={200: video_links()}, response_model=VideoObject
)
async def get_video(video_id: str, request: Request, services: ServicesOf, access: MayRead) -> Response:
    """One job."""
    return await answer(request, services, await find_or_404(services, video_id, access))


@router.get(
    "/v1/videos/{video_id}/content",
    operation_id="getVideoContent",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {"video/mp4": {}, "image/webp": {}, "image/jpeg": {}}},
        206: {"description": "A part of the file."},
        304: {"description": "The client has it: If-None-Match has its ETag."},
        416: {"description": "The range is outside the file."},
    },
)
async def get_content(
    video_id: str,
    services: ServicesOf,
    access: MayRead,
    variant: Variant = "video",
    index: Annotated[int, Query(ge=0, le=1000, description="Which of several clips."), NO_UNDERSCORES] = 0,
    range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The clip, its thumbnail or spritesheet; or, while it is made, a preview."""
    job = await find_or_404(services, video_id, access)
    return await run_in_threadpool(send_variant, services, job, variant, index, range, if_none_match, if_range)


@router.get(
    "/v1/videos/{video_id}/events",
    operation_id="followVideo",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "Events status, progress, preview and closing.", "content": {"text/event-stream": {}}}
    },
)
async def follow(
    video_id: str, request: Request, services: ServicesOf, access: MayRead, bearer: Bearer, cookie: Cookie
) -> EventSourceResponse:
    """The job's states as server-sent events, until it has ended."""
    job = await find_or_404(services, video_id, access)
    key = None if bearer is None else bearer.credentials
    events = events_of_job(services, access, job, str(request.base_url), key, cookie)
    return EventSourceResponse(events, ping=SSE_SECONDS, shutdown_grace_period=LAST_LOOK_SECONDS)


@router.patch("/v1/videos/{video_id}", operation_id="changeVideo", response_model=VideoObject)
async def change(
    video_id: str, fields: ChangeFields, request: Request, services: ServicesOf, access: MayWrite
) -> Response:
    """Change what a waiting job asks for."""
    job = await find_or_404(services, video_id, access)
    return await answer(request, services, await run_in_threadpool(_changed, services, access, job, fields))


@router.post("/v1/videos/{video_id}/move", operation_id="moveVideo", response_model=VideoList)
async def move(
    video_id: str, fields: MoveFields, request: Request, services: ServicesOf, access: MayWrite
) -> VideoList:
    """Give a waiting job another place in this key's queue, and the priority of that place. The answer is the queue."""
    job = await find_or_404(services, video_id, access)
    try:
        jobs = await run_in_threadpool(move_job, services.database, job, access, fields.index)
    except NotWaiting:
        raise _not_waiting(job) from None
    except PriorityTooGood as error:
        best = f"this key's best priority is {access.best_priority}"
        message = f"place {fields.index} has priority {error.needed}; {best}"
        raise ApiError(403, message, "insufficient_scope", param="index") from None
    return await run_in_threadpool(_listed, services, jobs, str(request.base_url), False)


@router.post("/v1/videos/{video_id}/cancel", operation_id="cancelVideo", response_model=VideoObject)
async def cancel(video_id: str, request: Request, services: ServicesOf, access: MayWrite) -> Response:
    """Stop a job: at once while it waits, within one step while it runs. One that has ended stays as it is."""
    job = await find_or_404(services, video_id, access)
    return await answer(request, services, await run_in_threadpool(cancel_job, services.database, job))


@router.delete("/v1/videos/{video_id}", operation_id="deleteVideo", response_model=VideoDeleted)
async def delete(video_id: str, services: ServicesOf, access: MayWrite) -> VideoDeleted:
    """Remove a job and its files for good, clips that are finished too; one that runs is stopped."""
    job = await find_or_404(services, video_id, access)
    await run_in_threadpool(delete_job, services.database, services.store, job)
    return VideoDeleted(id=video_id)


def _listed(services: Services, jobs: list[Job], base_url: str, more: bool) -> VideoList:
    data = [described(services, job, base_url) for job in jobs]
    return VideoList(
        data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=more
    )


async def events_of_job(
    services: Services, access: Access, job: Job, base_url: str, key: str | None, cookie: str | None
) -> AsyncIterator[dict[str, Any]]:
    """An event `status` for a new state, `progress` for a new step, each with the job as data; `preview` with an address.

    `closing` is the last one where the stream ends before the job; none where the key or the session is not valid any more.
    """
    before: tuple[object, ...] = ()
    previewed = -1
    until = time.monotonic() + services.api.stream_seconds
    while True:
        now = (job.status, job.step, job.stage_shown, len(job.outputs))
        if now != before:
            kind = "status" if not before or before[0] != now[0] else "progress"
            data = await run_in_threadpool(described, services, job, base_url)
            yield {"event": kind, "data": data.model_dump_json(), "id": f"{job.attempt}-{job.step}-{time.time():.3f}"}
        if job.has_ended:
            return
        if services.closing.is_set() or time.monotonic() > until:
            yield closing_event(services)
            return
        if job.preview is not None and job.step != previewed:
            previewed = job.step
            picture = f"{base_url.rstrip('/')}/v1/videos/{job.id}/content?variant=preview"
            yield {"event": "preview", "data": json.dumps({"id": job.id, "step": job.step, "url": picture})}
        before = now
        await asyncio.sleep(LOOK_SECONDS)
        if not await is_still_let_in(services, key, cookie):
            return
        found = await services.reader.find(job.id, access)
        if found is None:
            yield {"event": "deleted", "data": json.dumps({"id": job.id, "deleted": True})}
            return
        job = found


def _changed(services: Services, access: Access, job: Job, fields: ChangeFields) -> Job:
    priority = job.priority if fields.priority is None else fields.priority
    if priority < min(job.priority, access.best_priority):
        raise ApiError(
            403, f"this key's best priority is {access.best_priority}", "insufficient_scope", param="priority"
        )
    request = changed_request(services, job, fields)
    if job.outputs and request != job.request:
        message = f"{len(job.outputs)} of the clips of {job.id} are made; only its priority can be changed"
        raise ApiError(409, message, "video_not_queued", param="video_id")
    try:
        return edit_job(services.database, job, request, priority)
    except NotWaiting:
        raise _not_waiting(job) from None


def _not_waiting(job: Job) -> ApiError:
    state = f"is {job.status}" if job.status in ENDED else "runs already"
    return ApiError(409, f"{job.id} {state}; only a waiting job can be changed", "video_not_queued", param="video_id")
