"""Keeping house: jobs without a worker, clips past their time, files without a job. Any number of servers may do it at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.exc import DBAPIError

from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.outages import is_full
from phonofilm.serving.database.tables import JOB, WORKER
from phonofilm.serving.jobs.claims import end_lost_jobs
from phonofilm.serving.jobs.job import ENDED, Job
from phonofilm.serving.jobs.job_queue import cancel_job
from phonofilm.serving.jobs.roster import read_setting, write_setting
from phonofilm.serving.library.changes import forget_clips
from phonofilm.serving.store.belonging import SINCE
from phonofilm.serving.store.interface import INPUTS, OUTPUTS, Store

logger = logging.getLogger(__name__)

# Seconds after which a file that belongs to no job, or to another attempt than the one published, is nobody's.
ORPHAN_SECONDS = 3600.0
# Seconds that a row is kept after its clip has expired, so that a client hears of it.
ROW_SECONDS = 30 * 86400.0
SILENT_WORKER_SECONDS = 300.0


def sweep_jobs(database: Database, store: Store, keep: float | None) -> None:
    """End lost jobs, remove expired and deleted clips and previews of jobs that ended, and forget workers that are long gone."""
    for job_id in end_lost_jobs(database, keep):
        logger.warning("job %s lost its worker and is not tried again", job_id)
    now = DatabaseNow()
    ended = JOB.c.status.in_(ENDED)
    gone = and_(ended, JOB.c.hidden)
    expired = and_(ended, JOB.c.expires_at < now, JOB.c.nbytes > 0)
    with database.read() as connection:
        ids = connection.execute(select(JOB.c.id).where(or_(gone, expired)).limit(500)).scalars().all()
    for job_id in ids:
        _remove_files(store, job_id)
    with database.write() as connection:
        forget_clips(connection, ids)
        connection.execute(delete(JOB).where(JOB.c.id.in_(ids), gone))
        connection.execute(update(JOB).where(JOB.c.id.in_(ids)).values(nbytes=0, outputs=[], preview=None))
        connection.execute(delete(JOB).where(ended, JOB.c.expires_at < now - ROW_SECONDS))
        connection.execute(delete(WORKER).where(WORKER.c.seen_at < now - SILENT_WORKER_SECONDS))
    _sweep_previews(database, store)


def delete_job(database: Database, store: Store, job: Job) -> None:
    """Take the job away from clients; `sweep_jobs` removes what there is of it.

    Where the database's disk is full, the files of one that has ended go first: they may make the room in which it is written.
    """
    try:
        cancel_job(database, job, hide=True)
    except DBAPIError as error:
        if not (is_full(error) and job.has_ended):
            raise
        _remove_files(store, job.id)
        cancel_job(database, job, hide=True)


def show_that_it_can_be_written(database: Database) -> None:
    """While the database cannot be written, try to: nobody else may want to when it can be again."""
    if database.outages.cannot_write:
        write_setting(database, "tried_at", time.time())


def sweep_files(database: Database, store: Store) -> int:
    """Remove files that belong to no job, or that an attempt left which was overtaken; the number removed.

    What was there before the store became this database's stays.
    """
    removed, since = 0, float(read_setting(database, SINCE) or 0.0)
    for kind in (INPUTS, OUTPUTS):
        for job_id, newest in store.folders(kind):
            if time.time() - newest < ORPHAN_SECONDS:
                continue
            with database.read() as connection:
                row = connection.execute(select(JOB.c.outputs, JOB.c.status).where(JOB.c.id == job_id)).first()
            if row is None:
                if newest < since:
                    continue
                removed += len(store.files(kind, job_id))
                store.clear(kind, job_id)
                continue
            if kind == INPUTS or row.status not in ENDED:
                continue
            published = {name for clip in row.outputs for name in clip.values()}
            # What was measured of a clip is named as the clip is.
            stems = tuple(f"{name.rpartition('-')[0]}-" for name in published)
            for name in set(store.files(kind, job_id)) - published:
                if not (stems and name.startswith(stems)):
                    store.delete(name)
                    removed += 1
    return removed


def used_bytes(database: Database) -> int:
    """Bytes of all files that belong to jobs."""
    with database.read() as connection:
        return int(connection.execute(select(func.coalesce(func.sum(JOB.c.nbytes), 0))).scalar() or 0)


def counts_by_status(database: Database, models: Collection[str] | None = None) -> dict[str, int]:
    """How many jobs the table has in each state; with `models`, of those alone."""
    counted = select(JOB.c.status, func.count()).group_by(JOB.c.status)
    with database.read() as connection:
        rows = connection.execute(counted if models is None else counted.where(JOB.c.model.in_(models))).all()
    return {str(status): int(count) for status, count in rows}


def oldest_waiting_seconds(database: Database) -> float:
    """For how long the job that waits longest has waited; 0 when none waits."""
    since = func.min(case((JOB.c.status == "queued", JOB.c.created_at)))
    with database.read() as connection:
        return max(0.0, float(connection.execute(select(DatabaseNow() - since)).scalar() or 0.0))


def _sweep_previews(database: Database, store: Store) -> None:
    """Here and not by the worker, which may have been killed, or may have let the job go back into the queue before."""
    left = select(JOB.c.id, JOB.c.preview).where(JOB.c.status.in_(ENDED), JOB.c.preview.is_not(None)).limit(500)
    with database.read() as connection:
        rows = connection.execute(left).all()
    if not rows:
        return
    for row in rows:
        store.delete(row.preview)
    with database.write() as connection:
        connection.execute(update(JOB).where(JOB.c.id.in_([row.id for row in rows])).values(preview=None))


def _remove_files(store: Store, job_id: str) -> None:
    for kind in (INPUTS, OUTPUTS):
        for name in store.files(kind, job_id):
            store.delete(name)
