"""The jobs of one command, done by workers on Ray: entered into a table, followed until the last has ended, and removed."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from sqlalchemy.exc import DBAPIError

from phonofilm.errors import PhonofilmError
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.cluster.ray_cluster import ClusterSettings
from phonofilm.serving.cluster.ray_workers import RayWorkers
from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.database.outages import is_unreachable
from phonofilm.serving.jobs.claims import end_lost_jobs
from phonofilm.serving.jobs.job import Job, JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import NewJob, Room, ended_of, enter, remove_jobs_of
from phonofilm.serving.security.access import READ, Access
from phonofilm.serving.settings import WorkerSettings

LOOK_SECONDS = 0.5
DATABASE_VARIABLE = "PHONOFILM_DATABASE_URL"
# What runs when the command is interrupted has so long; what was written before stays.
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class OwnWork:
    """Who does the jobs and where.

    maker: what makes them, as "module:name". Names in jobs start from the folder that this process is in, which all machines
    that do the jobs must have.
    """

    maker: str
    cluster: ClusterSettings
    hardware: HardwareOptions


class Workers(Protocol):
    """Started before the first job is looked for, and stopped after the last; RayWorkers is one."""

    fault: str | None

    def start(self) -> None: ...

    def stop(self) -> None: ...


NewWorkers = Callable[[WorkerSettings, Database, ClusterSettings, Callable[[], None], str], Workers]


def do_jobs(
    work: OwnWork,
    requests: Sequence[JobRequest],
    on_end: Callable[[int, Job], None],
    new_workers: NewWorkers = RayWorkers,
) -> None:
    """Have every request done; `on_end` is called with its number and its job once that has ended, failed or not.

    The table is one of this machine, for as long as this runs; for several machines the one at PHONOFILM_DATABASE_URL.
    Raises InputError for a cluster that cannot be used, and PhonofilmError when no worker can do anything.
    """
    owner = f"run-{secrets.token_hex(8)}"  # stands for the model too: no other server's worker takes these jobs
    with TemporaryDirectory(prefix="phonofilm-jobs-") as folder:
        database = open_database(os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{folder}/jobs.db")
        migrate(database)
        settings = WorkerSettings(
            models={owner: owner},
            database_url=database.url.render_as_string(hide_password=False),
            store=str(Path.cwd()),
            hardware=work.hardware,
            keep=None,
            grace=GRACE_SECONDS,
            keeps_store=False,
        )
        hopeless = threading.Event()
        workers = new_workers(settings, database, work.cluster, hopeless.set, work.maker)
        access, room = Access(owner, frozenset({READ})), Room(None, None)
        ids = [enter(database, NewJob(new_job_id(), request, owner), access, room)[0].id for request in requests]
        try:
            workers.start()
            _follow(database, owner, ids, on_end, hopeless)
            if hopeless.is_set():
                raise PhonofilmError(f"no worker can do this: {workers.fault}")
        finally:
            workers.stop()
            remove_jobs_of(database, owner)
            database.close()


def _follow(
    database: Database, owner: str, ids: Sequence[str], on_end: Callable[[int, Job], None], hopeless: threading.Event
) -> None:
    """Until all have ended, or no worker can do anything."""
    waiting = {job_id: number for number, job_id in enumerate(ids)}
    while waiting:
        try:
            end_lost_jobs(database, None, owner)
            ended = ended_of(database, owner, waiting)
        except DBAPIError as error:
            if not is_unreachable(error):
                raise
            ended = []
        for job in ended:
            on_end(waiting.pop(job.id), job)
        if waiting and hopeless.wait(LOOK_SECONDS):
            return
