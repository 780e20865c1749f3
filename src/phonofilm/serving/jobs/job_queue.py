"""What clients do with the table: enter a job, look at jobs, cancel, edit and hide them.

Moving them is in moving.py, workers' part in claims.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, insert, or_, select, text, update

from phonofilm.serving.database.clock import DatabaseNow, EnteringTime
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import CLIP, JOB
from phonofilm.serving.jobs.job import CANCELLED, ENDED, IN_PROGRESS, QUEUED, Job, JobRequest, job_of
from phonofilm.serving.security.access import Access

JOB_ID = re.compile(r"\w{1,64}", re.ASCII)
ENTRY_LOCK = 0x70686F6E70
# Seconds a clip is thought to take while none has been made yet.
UNKNOWN_SECONDS = 30.0
# Names in one statement; SQLite takes no more than 32,766.
MOST_AT_ONCE = 1000
# In which waiting jobs run, but for what a worker has loaded (claims.py).
QUEUE_ORDER = (JOB.c.priority, JOB.c.position, JOB.c.id)


@dataclass(frozen=True)
class NewJob:
    """A request with what the table needs to know of it. `nbytes`: of the files that were uploaded with it."""

    id: str
    request: JobRequest
    model: str
    priority: int = 0
    nbytes: int = 0
    remixed_from: str | None = None
    idempotency_key: str | None = None
    body_hash: str | None = None
    callback_url: str | None = None


@dataclass(frozen=True)
class Room:
    """How much may wait and be kept by all keys together; None is without limit."""

    max_queued: int | None = 1000
    max_bytes: int | None = None


class QueueFull(Exception):
    """The queue, or a key's part of it, is full: `code` and `message` say which; try again after so many seconds."""

    def __init__(self, code: str, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after


class IdempotencyConflict(Exception):
    """The idempotency key was used for another request."""


class NotWaiting(Exception):
    """The job cannot be changed: it runs already, or has ended."""


# Built once: with its values in it, SQLAlchemy would take it to pieces for every job, which is a third of a submission's time.
_ENTER = insert(JOB).values(position=EnteringTime(), created_at=EnteringTime()).returning(*JOB.c)


def enter(database: Database, new: NewJob, access: Access, room: Room) -> tuple[Job, bool]:
    """Put a job into the queue: (the job, True), or (the one that the same idempotency key made, False).

    Raises QueueFull and IdempotencyConflict. The limits and the entry are one transaction.
    """
    with database.write() as connection:
        if not database.is_sqlite:  # SQLite has one writer anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ENTRY_LOCK})
        if new.idempotency_key is not None and (before := _made_before(connection, new, access)) is not None:
            return before, False
        _check_room(connection, new, access, room)
        values = {
            "id": new.id,
            "owner": access.owner,
            "status": QUEUED,
            "hidden": False,
            "model": new.model,
            "priority": new.priority,
            "request": new.request.to_json(),
            "attempt": 0,
            "strikes": 0,
            "cancel_requested": False,
            "step": 0,
            "steps": 0,
            "outputs": [],
            "made": {},
            "nbytes": new.nbytes,
            "remixed_from": new.remixed_from,
            "idempotency_key": new.idempotency_key,
            "body_hash": new.body_hash,
            "callback_url": new.callback_url,
            "callback_tries": 0,
        }
        row = connection.execute(_ENTER, values).mappings().one()
        return job_of(row), True


def find(database: Database, job_id: str, access: Access) -> Job | None:
    """The job, if there is one that this key may see."""
    if JOB_ID.fullmatch(job_id) is None:  # databases differ in what text they take
        return None
    with database.read() as connection:
        row = connection.execute(visible_jobs(access).where(JOB.c.id == job_id)).mappings().first()
    return None if row is None else job_of(row)


def find_all(database: Database, job_ids: Sequence[str]) -> dict[str, Job]:
    """The jobs of these names that are not deleted, whosever they are."""
    statement = select(*JOB.c).where(JOB.c.hidden.is_(False), JOB.c.id.in_(job_ids))
    with database.read() as connection:
        return {row["id"]: job_of(row) for row in connection.execute(statement).mappings()}


def page(
    database: Database, access: Access, *, after: str | None, limit: int, newest_first: bool, status: str | None
) -> tuple[list[Job], bool] | None:
    """Up to `limit` jobs after the one named, and whether there are more; None when that one is not there."""
    if after is not None and JOB_ID.fullmatch(after) is None:
        return None
    order = (JOB.c.created_at, JOB.c.id)
    statement = visible_jobs(access)
    if status is not None:
        statement = statement.where(JOB.c.status == status)
    with database.read() as connection:
        if after is not None:
            last = connection.execute(visible_jobs(access).where(JOB.c.id == after)).mappings().first()
            if last is None:
                return None
            at, name = last["created_at"], last["id"]
            later = or_(JOB.c.created_at > at, and_(JOB.c.created_at == at, JOB.c.id > name))
            earlier = or_(JOB.c.created_at < at, and_(JOB.c.created_at == at, JOB.c.id < name))
            statement = statement.where(earlier if newest_first else later)
        statement = statement.order_by(*(one.desc() if newest_first else one.asc() for one in order)).limit(limit + 1)
        rows = connection.execute(statement).mappings().all()
    return [job_of(row) for row in rows[:limit]], len(rows) > limit


def waiting(database: Database, access: Access, limit: int = 1000) -> list[Job]:
    """The jobs that wait, in the order in which they will run."""
    with database.read() as connection:
        queued = visible_jobs(access).where(JOB.c.status == QUEUED)
        rows = connection.execute(queued.order_by(*QUEUE_ORDER).limit(limit))
        return [job_of(row) for row in rows.mappings()]


def unsettled(database: Database, access: Access, recent: float, most_ended: int) -> list[Job]:
    """The jobs that wait or run, and the last ones that ended within `recent` seconds and were not dismissed, newest first."""
    open_ones = JOB.c.status.in_((QUEUED, IN_PROGRESS))
    ended = and_(~open_ones, JOB.c.completed_at > DatabaseNow() - recent, JOB.c.dismissed.is_(False))
    with database.read() as connection:
        going = connection.execute(visible_jobs(access).where(open_ones).order_by(JOB.c.created_at).limit(1000))
        jobs = [job_of(row) for row in going.mappings()]
        last = visible_jobs(access).where(ended).order_by(JOB.c.completed_at.desc()).limit(most_ended)
        return jobs + [job_of(row) for row in connection.execute(last).mappings()]


def ended_of(database: Database, owner: str, among: Collection[str]) -> list[Job]:
    """The jobs of an owner that have ended, of those named, in the order in which they did."""
    ended = (JOB.c.owner == owner, JOB.c.status.in_(ENDED))
    with database.read() as connection:
        names = connection.execute(select(JOB.c.id).where(*ended).order_by(JOB.c.completed_at)).scalars()
        new = [name for name in names if name in among][:MOST_AT_ONCE]
        rows = connection.execute(select(*JOB.c).where(JOB.c.id.in_(new)).order_by(JOB.c.completed_at)).mappings()
        return [job_of(row) for row in rows]


def remove_jobs_of(database: Database, owner: str) -> None:
    """Take all jobs of an owner out of the table, whatever their state."""
    with database.write() as connection:
        connection.execute(delete(JOB).where(JOB.c.owner == owner))


def cancel_job(database: Database, job: Job, *, hide: bool = False) -> Job:
    """End a job that waits, and ask the worker of one that runs to stop; with `hide` it is also gone for clients."""
    waits = JOB.c.status == QUEUED
    runs = or_(waits, JOB.c.status == IN_PROGRESS)
    values: dict[str, Any] = {
        "status": case((waits, CANCELLED), else_=JOB.c.status),
        "completed_at": case((waits, DatabaseNow()), else_=JOB.c.completed_at),
        "callback_due": case((and_(waits, JOB.c.callback_url.is_not(None)), DatabaseNow()), else_=JOB.c.callback_due),
        "cancel_requested": case((runs, True), else_=JOB.c.cancel_requested),
        "hidden": True if hide else JOB.c.hidden,
    }
    with database.write() as connection:
        row = connection.execute(update(JOB).where(JOB.c.id == job.id).values(**values).returning(*JOB.c))
        return job_of(row.mappings().one())


def dismiss_job(database: Database, job: Job) -> None:
    """Take a job that has ended out of the list of those. One without a clip has nothing to keep, and is removed."""
    has_clips = select(CLIP.c.id).where(CLIP.c.job_id == JOB.c.id).exists()
    with database.write() as connection:
        ended = update(JOB).where(JOB.c.id == job.id, JOB.c.status.in_(ENDED))
        connection.execute(ended.values(dismissed=True, hidden=or_(JOB.c.hidden, ~has_clips)))


def edit_job(database: Database, job: Job, request: JobRequest, priority: int) -> Job:
    """Change what a waiting job asks for. Raises NotWaiting when a worker has it, or has had it since `job` was read."""
    statement = (
        update(JOB)
        .where(JOB.c.id == job.id, JOB.c.status == QUEUED, JOB.c.attempt == job.attempt)
        .values(request=request.to_json(), priority=priority)
        .returning(*JOB.c)
    )
    with database.write() as connection:
        row = connection.execute(statement).mappings().first()
    if row is None:
        raise NotWaiting
    return job_of(row)


def seconds_per_job(connection: Connection) -> float:
    """The mean time of the last clips."""
    took = JOB.c.completed_at - JOB.c.started_at
    last = select(took.label("took")).where(took.is_not(None)).order_by(JOB.c.completed_at.desc()).limit(20).subquery()
    return float(connection.execute(select(func.avg(last.c.took))).scalar() or UNKNOWN_SECONDS)


def _made_before(connection: Connection, new: NewJob, access: Access) -> Job | None:
    """The job that the same idempotency key made. One that was deleted since gives its key up."""
    same = select(*JOB.c).where(JOB.c.owner == access.owner, JOB.c.idempotency_key == new.idempotency_key)
    row = connection.execute(same).mappings().first()
    if row is None:
        return None
    if row["hidden"]:
        connection.execute(update(JOB).where(JOB.c.id == row["id"]).values(idempotency_key=None))
        return None
    if row["body_hash"] != new.body_hash:
        raise IdempotencyConflict
    return job_of(row)


def _check_room(connection: Connection, new: NewJob, access: Access, room: Room) -> None:
    own = JOB.c.owner == access.owner
    limits: Sequence[tuple[str, str, int | None, ColumnElement[bool] | None]] = (
        ("queue_full", "the queue is full: {limit} jobs wait", room.max_queued, None),
        ("key_queue_full", "this key's part of the queue is full: {limit} jobs wait", access.max_queued, own),
    )
    for code, message, limit, whose in limits:
        if limit is None:
            continue
        statement = select(func.count()).where(JOB.c.status == QUEUED)
        if (connection.execute(statement if whose is None else statement.where(whose)).scalar() or 0) >= limit:
            raise QueueFull(code, message.format(limit=limit), min(600.0, max(1.0, seconds_per_job(connection))))
    check_bytes(connection, new.nbytes, access, room)


def check_bytes(connection: Connection, nbytes: int, access: Access, room: Room) -> None:
    """Raises QueueFull when so many bytes more are too many for the server's disk quota, or for the key's."""
    own = JOB.c.owner == access.owner
    for code, whose_disk, limit, whose in (
        ("storage_full", "the server's disk quota is used up", room.max_bytes, None),
        ("key_storage_full", "this key's disk quota is used up", access.max_bytes, own),
    ):
        if limit is None:
            continue
        statement = select(func.coalesce(func.sum(JOB.c.nbytes), 0))
        used = connection.execute(statement if whose is None else statement.where(whose)).scalar() or 0
        if used + nbytes > limit:
            raise QueueFull(code, f"{whose_disk}; delete clips that are no longer needed", 60.0)


def visible_jobs(access: Access) -> Select[Any]:
    """The rows of the jobs that a key may see."""
    statement = select(*JOB.c).where(JOB.c.hidden.is_(False))
    return statement if access.sees_all else statement.where(JOB.c.owner == access.owner)
