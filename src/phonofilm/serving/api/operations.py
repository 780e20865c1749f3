"""Routes for whoever runs the server: whether it lives, whether it can serve, and what Prometheus wants to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.services import MayWatch, Services, ServicesOf
from phonofilm.serving.database.outages import UNREACHABLE
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import COMPLETED, FAILED
from phonofilm.serving.jobs.roster import ENGINE_AWAY, STARTING, living_workers
from phonofilm.serving.jobs.sweep import counts_by_status, oldest_waiting_seconds, used_bytes

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """ok: clips are made. degraded: some are not, or none, for a `reason`. starting: the model is being loaded. no_worker:
    nobody works. workers: those that make clips.
    """

    status: str
    workers: int
    reason: str | None = None


@router.get("/liveness", operation_id="liveness")
async def liveness() -> dict[str, str]:
    """The server answers."""
    return {"status": "ok"}


@router.get("/health", operation_id="health", responses={503: {"model": Health, "description": "Not yet."}})
def get_health(services: ServicesOf, response: Response) -> Health:
    """Whether clips are made: 503 until a worker has its model, and while the engine that makes the clips of all is away."""
    try:
        states = [worker["state"] for worker in living_workers(services.database)]
        away = services.database.outages.reason  # of what was written last, where it is only read now
    except DBAPIError:
        states, away = [], UNREACHABLE
    if away is not None:
        response.status_code = 503
        return Health(status="degraded", workers=0, reason=away)
    ready = sum(state not in (STARTING, ENGINE_AWAY) for state in states)
    response.status_code = 200 if ready else 503
    if without := states.count(ENGINE_AWAY):
        reason = f"the engine's server does not answer {without} of {len(states)} workers; jobs wait for it"
        return Health(status="degraded", workers=ready, reason=reason)
    if ready:
        return Health(status="ok", workers=ready)
    if states:
        return Health(status="starting", workers=0, reason="a worker loads its model")
    if services.workers_come():
        return Health(status="starting", workers=0, reason="a worker is being started")
    if services.workers_come_with_jobs():
        response.status_code = 200  # who asks before sending jobs would never send one
        return Health(status="ok", workers=0, reason="no job waits; a worker is started for the next one")
    return Health(status="no_worker", workers=0, reason="no worker runs; start one with phonofilm worker")


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        **ERRORS,
        200: {
            "description": "Prometheus' text format: a line for each figure.",
            "content": {"text/plain": {"example": 'phonofilm_jobs{status="completed"} 12.0\n'}},
        },
    },
)
async def metrics(request: Request, services: ServicesOf, access: MayWatch) -> Response:
    """Prometheus' text format. While the database is away: the figures of this process, and `phonofilm_database_up 0`."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Numbers(services, request.app.state.answers))
    text = await run_in_threadpool(generate_latest, registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


class _Numbers:
    """What is measured, read when it is asked for: from the table, so that every server of a database says the same, and from
    this process.
    """

    def __init__(self, services: Services, answers: Counter[tuple[str, int]]) -> None:
        self.services, self.answers = services, answers

    def collect(self) -> Iterator[Metric]:
        try:
            found = [*self._from_tables()]
        except DBAPIError:
            found = []
        up = int(bool(found) and self.services.database.outages.reason is None)
        yield GaugeMetricFamily(
            "phonofilm_database_up", "1 where the job database can be read and written, else 0.", up
        )
        yield from found
        answers = CounterMetricFamily("phonofilm_http_responses", "Answers of this server.", labels=["route", "status"])
        for (route, code), count in sorted(self.answers.items()):
            answers.add_metric([route, str(code)], count)
        yield answers

    def _from_tables(self) -> Iterator[Metric]:
        database = self.services.database
        jobs = GaugeMetricFamily("phonofilm_jobs", "Jobs in the table.", labels=["status"])
        for status, count in counts_by_status(database).items():
            jobs.add_metric([status], count)
        yield jobs
        oldest = oldest_waiting_seconds(database)
        yield GaugeMetricFamily("phonofilm_queue_oldest_seconds", "How long the oldest waiting job waits.", oldest)
        yield GaugeMetricFamily("phonofilm_stored_bytes", "Bytes of all jobs' files.", used_bytes(database))
        workers = GaugeMetricFamily("phonofilm_workers", "Living workers.", labels=["state"])
        memory = GaugeMetricFamily("phonofilm_worker_memory_bytes", "A worker's memory.", labels=["worker"])
        living = living_workers(database)
        for state, count in Counter(str(worker["state"]) for worker in living).items():
            workers.add_metric([state], count)
        for worker in living:
            memory.add_metric([worker["id"]], worker["memory"])
        yield from (workers, memory)
        yield from _from_ended_jobs(self.services)


def _from_ended_jobs(services: Services) -> Iterator[Metric]:
    failures = GaugeMetricFamily("phonofilm_failed_jobs", "Failed jobs in the table, by reason.", labels=["code"])
    seconds = GaugeMetricFamily(
        "phonofilm_seconds_per_step",
        "A sampling step's seconds, without encoding, decoding and previews: mean of the last 20 clips, by model.",
        labels=["model"],
    )
    with services.database.read() as connection:
        failed = select(JOB.c.error_code, func.count()).where(JOB.c.status == FAILED).group_by(JOB.c.error_code)
        for code, count in connection.execute(failed):
            failures.add_metric([code or ""], count)
        last = (
            select(JOB.c.model, JOB.c.made["seconds_per_step"].as_float().label("each"))
            .where(JOB.c.status == COMPLETED, JOB.c.made["seconds_per_step"].as_float().is_not(None))
            .order_by(JOB.c.completed_at.desc())
            .limit(20)
            .subquery()
        )
        for model, each in connection.execute(select(last.c.model, func.avg(last.c.each)).group_by(last.c.model)):
            seconds.add_metric([model], float(each))
    yield from (failures, seconds)
