"""One stream of events for the whole page: jobs, previews, the library and the workers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse

from phonofilm.serving.api.answers import ERRORS, LAST_LOOK_SECONDS, closing_event
from phonofilm.serving.api.services import Bearer, Cookie, MayRead, Services, ServicesOf, is_still_let_in
from phonofilm.serving.jobs.roster import living_workers
from phonofilm.serving.library.clips import revision
from phonofilm.serving.security.access import Access
from phonofilm.serving.studio.objects import StudioJob, StudioWorker
from phonofilm.serving.studio.queue import all_jobs

router = APIRouter(tags=["studio"], responses=ERRORS)
LOOKS_APART = 0.5  # seconds
PING_SECONDS = 15

Event = dict[str, Any]


@router.get(
    "/v1/studio/events",
    operation_id="followStudio",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events jobs, job, removed, preview, clips, workers and closing.",
            "content": {"text/event-stream": {}},
        }
    },
)
async def follow_studio(services: ServicesOf, access: MayRead, bearer: Bearer, cookie: Cookie) -> EventSourceResponse:
    """Everything that changes, as server-sent events; the first one says how things are."""
    key = None if bearer is None else bearer.credentials
    events = events_of(services, access, key, cookie)
    return EventSourceResponse(events, ping=PING_SECONDS, shutdown_grace_period=LAST_LOOK_SECONDS)


async def events_of(services: Services, access: Access, key: str | None, cookie: str | None) -> AsyncIterator[Event]:
    """The events for one page.

    They end with the server or after `stream_seconds`, with a last event that says so; and when the page's key or session is
    not valid any more.
    """
    watch = Watch(services, access)
    until = time.monotonic() + services.api.stream_seconds
    while not services.closing.is_set() and time.monotonic() < until:
        if not await is_still_let_in(services, key, cookie):
            return
        for event in await run_in_threadpool(lambda: list(watch.look())):
            yield event
        await asyncio.sleep(LOOKS_APART)
    yield closing_event(services)


@dataclass
class Watch:
    """What one page saw last; every look says what is different since."""

    services: Services
    access: Access
    _jobs: dict[str, StudioJob] = field(default_factory=dict)
    _order: list[str] | None = None
    _clips: tuple[int, float] | None = None
    _workers: list[StudioWorker] | None = None

    def look(self) -> Iterator[Event]:
        """The events since the last look."""
        found = all_jobs(self.services, self.access)
        jobs = {job.id: job for job in (*found.running, *found.waiting, *found.ended)}
        order = [job.id for job in found.waiting]
        if self._order is None or not self._in_same_order(order):
            yield _event("jobs", found.model_dump_json())
        else:
            for gone in self._jobs.keys() - jobs.keys():
                yield _event("removed", json.dumps({"id": gone}))
            for job in jobs.values():
                if _state(job) != _state(self._jobs.get(job.id)):
                    yield _event("job", job.model_dump_json())
        for job in found.running:
            before = self._jobs.get(job.id)
            if job.preview_url is not None and (before is None or before.preview_url != job.preview_url):
                yield _event("preview", json.dumps({"id": job.id, "step": job.step, "url": job.preview_url}))
        self._jobs, self._order = jobs, order
        if (now := revision(self.services.database, self.access)) != self._clips:
            self._clips = now
            yield _event("clips", json.dumps({"revision": round(now[1] * 1000) + now[0]}))
        workers = workers_of(self.services)
        if [(one.state, one.models) for one in workers] != [(one.state, one.models) for one in self._workers or ()]:
            yield _event("workers", json.dumps({"workers": [one.model_dump() for one in workers]}))
        self._workers = workers

    def _in_same_order(self, order: list[str]) -> bool:
        """Whether the jobs that wait are those of before, less what has begun or gone, and with new ones at the end."""
        before = [one for one in self._order or () if one in set(order)]
        return order[: len(before)] == before


def workers_of(services: Services) -> list[StudioWorker]:
    """The workers that live."""
    return [
        StudioWorker(state=worker["state"], models=worker["models"], memory=worker["memory"])
        for worker in living_workers(services.database)
    ]


def _state(job: StudioJob | None) -> tuple[Any, ...] | None:
    if job is None:
        return None
    return job.status, job.step, job.steps, job.stage, job.place, job.request, job.priority, job.clip_ids


def _event(kind: str, data: str) -> Event:
    return {"event": kind, "data": data}
