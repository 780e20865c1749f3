"""A job as an answer, with the hint when to ask again; and waiting for a job to end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from phonofilm.serving.api.errors import ApiError, ErrorBody, not_found
from phonofilm.serving.api.objects import VideoObject, is_made, poll_after, video_object
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.job import Job
from phonofilm.serving.jobs.job_queue import cancel_job
from phonofilm.serving.security.access import Access

POLL_HEADER = "openai-poll-after-ms"
LOOK_SECONDS = 0.25
# What a stream of events has to end by itself when the server stops; less than uvicorn waits for open connections.
LAST_LOOK_SECONDS = 3.0

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": about}
    for code, about in {
        400: "The request cannot be met.",
        401: "A valid key is needed.",
        403: "The key may not do that.",
        404: "There is no such thing for this key.",
        409: "The state of the job, or the idempotency key, does not allow it.",
        413: "The body is too large.",
        415: "The body is of a kind that is not read.",
        429: "The queue, or the key's part of it, is full.",
        503: "The database or the store cannot be reached.",
    }.items()
}


def described(services: Services, job: Job, base_url: str) -> VideoObject:
    """The job as clients see it."""
    return video_object(job, base_url, None if is_made(job) else services.facts(job.model))


def is_at_hand(services: Services, job: Job) -> bool:
    """Whether `described` needs no look into the database."""
    return is_made(job) or services.knows(job.model)


async def answer(request: Request, services: Services, job: Job, headers: Mapping[str, str] | None = None) -> Response:
    """The job as JSON, with the polling hint."""
    base_url = str(request.base_url)
    if is_at_hand(services, job):
        found = described(services, job, base_url)
    else:
        found = await run_in_threadpool(described, services, job, base_url)
    after = poll_after(job, time.time())
    hint = {} if after is None else {POLL_HEADER: str(after)}
    return Response(found.model_dump_json(), media_type="application/json", headers={**hint, **(headers or {})})


def closing_event(services: Services) -> dict[str, Any]:
    """The last event of a stream that ends before what it follows does: a client connects again, to this server or another."""
    reason = "shutdown" if services.closing.is_set() else "time"
    return {"event": "closing", "data": json.dumps({"reason": reason})}


async def find_or_404(services: Services, video_id: str, access: Access) -> Job:
    """The job. Raises ApiError for one that is not there, or not for this key."""
    job = await services.reader.find(video_id, access)
    if job is None:
        raise not_found(video_id)
    return job


async def wait_for(request: Request, services: Services, access: Access, job: Job, timeout: float) -> Job:
    """The job once it has ended. Cancelled when the client hangs up; raises ApiError after `timeout` seconds."""
    until = time.monotonic() + timeout
    while not job.has_ended:
        if await request.is_disconnected() or time.monotonic() > until or services.closing.is_set():
            await run_in_threadpool(cancel_job, services.database, job)
            message = f"the clip was not ready after {timeout:g} s; use POST /v1/videos and ask for its state"
            raise ApiError(503, message, "timeout")
        await asyncio.sleep(LOOK_SECONDS)
        job = await find_or_404(services, job.id, access)
    return job
