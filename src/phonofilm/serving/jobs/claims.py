"""What a worker does with the table: claim a job, go on holding it, publish its clips, end it. Each is one transaction.

The fence: every statement after the claim names worker and attempt. If another worker has taken the job up since (this one
was thought dead), no row matches, and what this one has not published is thrown away. So a job ends once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, and_, case, func, insert, literal, or_, select, update

from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import API_KEY, CLIP, JOB
from phonofilm.serving.jobs.clip_rows import new_clips
from phonofilm.serving.jobs.job import (
    CANCELLED,
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    QUEUED,
    STRIKES,
    Job,
    MadeClips,
    job_of,
)

LEASE_SECONDS = 30.0
CANCEL_MESSAGE = "cancelled"


@dataclass(frozen=True)
class Claims:
    """One worker's hold on jobs. `worker` is its name in the table; `lease` the seconds it may be silent."""

    database: Database
    worker: str
    lease: float = LEASE_SECONDS

    def claim(self, models: Sequence[str], loaded: Sequence[str], switch_after: float) -> Job | None:
        """The next job for this worker, or None.

        Order: priority; then jobs of a model that is loaded, and those that have waited `switch_after` seconds whatever
        their model; then the place in the queue. A job whose worker fell silent is taken up again, with a strike.
        """
        near = case((or_(JOB.c.model.in_(loaded), JOB.c.created_at < DatabaseNow() - switch_after), 0), else_=1)
        chosen = (
            select(JOB.c.id)
            .where(JOB.c.model.in_(models), JOB.c.hidden.is_(False), JOB.c.cancel_requested.is_(False))
            .where(or_(and_(JOB.c.status == QUEUED, _may_run()), and_(_is_lost(), JOB.c.strikes < STRIKES - 1)))
            .order_by(JOB.c.priority, near, JOB.c.position, JOB.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .correlate(None)
            .scalar_subquery()
        )
        statement = (
            update(JOB)
            .where(JOB.c.id == chosen)
            .values(
                status=IN_PROGRESS,
                worker=self.worker,
                attempt=JOB.c.attempt + 1,
                strikes=JOB.c.strikes + case((JOB.c.status == IN_PROGRESS, 1), else_=0),
                lease_until=DatabaseNow() + self.lease,
                started_at=func.coalesce(JOB.c.started_at, DatabaseNow()),
                step=0,
                steps=0,
                stage="starting",
            )
            .returning(*JOB.c)
        )
        with self.database.write() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else job_of(row)

    def renew(self, job: Job, **progress: Any) -> bool | None:
        """Go on holding the job, with `step`, `steps`, `stage` or `preview` where they changed.

        True: go on. False: someone asked to cancel it. None: it is no longer ours.
        """
        statement = (
            self._held(job)
            .values(lease_until=DatabaseNow() + self.lease, **progress)
            .returning(JOB.c.cancel_requested, JOB.c.hidden)
        )
        with self.database.write() as connection:
            row = connection.execute(statement).first()
        return None if row is None else not (row[0] or row[1])

    def publish(self, job: Job, made: MadeClips, keep: float | None) -> bool | None:
        """Let clients see what is made so far; it stays, for `keep` seconds from now, however the job ends. As `renew`."""
        return self._write(job, {"lease_until": DatabaseNow() + self.lease, "expires_at": _expiry(keep)}, made)

    def complete(
        self, job: Job, outputs: Sequence[dict[str, str]], made: dict[str, Any], nbytes: int, keep: float | None
    ) -> bool:
        """Publish what was made, for `keep` seconds or for ever; False when the job is no longer ours."""
        end = _end(COMPLETED, expires_at=_expiry(keep))
        return self._write(job, end, MadeClips(list(outputs), made, nbytes)) is not None

    def fail(self, job: Job, code: str, message: str, keep: float | None, finished: MadeClips | None = None) -> bool:
        """End the job with a reason, and publish those of its clips that were `finished`; False when it is no longer ours."""
        end = _end(FAILED, error_code=code, error_message=message, expires_at=_expiry(keep))
        return self._write(job, end, finished) is not None

    def cancel(self, job: Job, keep: float | None = None, finished: MadeClips | None = None) -> bool:
        """End a job that someone asked to cancel, and publish those of its clips that were `finished`, for `keep` seconds."""
        expiry = {} if finished is None else {"expires_at": _expiry(keep)}
        return self._write(job, _end(CANCELLED, **expiry), finished) is not None

    def release(self, job: Job) -> bool:
        """Put the job back where it was in the queue, without a strike: this worker stops."""
        with self.database.write() as connection:
            return _let_go(connection, self._held(job))

    def _held(self, job: Job) -> Any:
        return update(JOB).where(*self._ours(job))

    def _ours(self, job: Job) -> list[ColumnElement[bool]]:
        return [
            JOB.c.id == job.id,
            JOB.c.worker == self.worker,
            JOB.c.attempt == job.attempt,
            JOB.c.status == IN_PROGRESS,
        ]

    def _write(self, job: Job, values: dict[str, Any], made: MadeClips | None) -> bool | None:
        """Change the job's row, and publish what was made, if the job is still ours: its row and those of its clips, or neither.

        As `renew`. Clips that were published before are left as they are, so that it does no harm to publish them once more
        where the answer was lost.
        """
        with self.database.write() as connection:
            there = connection.execute(select(JOB.c.outputs).where(*self._ours(job)).with_for_update()).first()
            if there is None:
                return None
            if made is not None:
                values |= {"outputs": made.outputs, "made": made.about, "nbytes": job.nbytes + made.nbytes}
                new = new_clips(job, made.about, len(made.outputs))[len(there.outputs) :]
                if new:
                    connection.execute(insert(CLIP).values(new))
            changed = self._held(job).values(**values).returning(JOB.c.cancel_requested, JOB.c.hidden)
            row = connection.execute(changed).one()
            return not (row[0] or row[1])


def give_back(database: Database, worker: str) -> None:
    """A worker was ended by us: put its jobs back where they were in the queue, without a strike."""
    with database.write() as connection:
        held = update(JOB).where(JOB.c.worker == worker, JOB.c.status == IN_PROGRESS)
        _let_go(connection, held)


def _let_go(connection: Connection, held: Update) -> bool:
    """Put held jobs back into the queue, and end those that someone asked to cancel, which nobody would claim.

    Whether there were any.
    """
    back = {"status": QUEUED, "worker": None, "lease_until": None, "step": 0, "steps": 0, "stage": None}
    cancelled = connection.execute(held.where(_given_up()).values(**_end(CANCELLED)))
    return bool(connection.execute(held.values(**back)).rowcount + cancelled.rowcount)


def expire_leases(database: Database, worker: str) -> None:
    """A worker is known to be dead: let others take its jobs up at once."""
    with database.write() as connection:
        held = update(JOB).where(JOB.c.worker == worker, JOB.c.status == IN_PROGRESS)
        connection.execute(held.values(lease_until=literal(0.0)))


def end_lost_jobs(database: Database, keep: float | None, owner: str | None = None) -> list[str]:
    """End jobs that lost their worker and are not tried again: for the last time, or after someone cancelled them.

    With `owner`, its jobs alone.
    """
    lost = update(JOB).where(_is_lost() if owner is None else and_(_is_lost(), JOB.c.owner == owner))
    message = f"the worker died or fell silent {STRIKES} times while it made this clip; it is not tried again"
    failed = _end(FAILED, error_code="worker_lost", error_message=message, expires_at=_expiry(keep))
    with database.write() as connection:
        cancelled = (
            connection.execute(lost.where(_given_up()).values(**_end(CANCELLED)).returning(JOB.c.id)).scalars().all()
        )
        strikes = lost.where(JOB.c.strikes >= STRIKES - 1).values(strikes=JOB.c.strikes + 1, **failed)
        return [*cancelled, *connection.execute(strikes.returning(JOB.c.id)).scalars()]


def _expiry(keep: float | None) -> Any:
    return None if keep is None else DatabaseNow() + keep


def _is_lost() -> ColumnElement[bool]:
    return and_(JOB.c.status == IN_PROGRESS, JOB.c.lease_until < DatabaseNow())


def _given_up() -> ColumnElement[bool]:
    return or_(JOB.c.cancel_requested, JOB.c.hidden)


def _may_run() -> ColumnElement[bool]:
    """Whether the job's key has not as many jobs running as it may have."""
    others = JOB.alias()
    running = (
        select(func.count())
        .where(others.c.owner == JOB.c.owner, others.c.status == IN_PROGRESS)
        .correlate(JOB)
        .scalar_subquery()
    )
    limit = select(API_KEY.c.max_running).where(API_KEY.c.id == JOB.c.owner).correlate(JOB).scalar_subquery()
    return or_(limit.is_(None), running < limit)


def _end(status: str, **values: Any) -> dict[str, Any]:
    due = case((JOB.c.callback_url.is_not(None), DatabaseNow()), else_=None)
    return {
        "status": status,
        "completed_at": DatabaseNow(),
        "worker": None,
        "lease_until": None,
        "stage": None,
        "callback_due": due,
        **values,
    }
