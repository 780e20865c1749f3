"""The worker: takes one job after the other, makes it, and ends it in the table, whatever happens."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import psutil
from sqlalchemy.exc import DBAPIError

from phonofilm.errors import PhonofilmError
from phonofilm.generation.report import Cancelled
from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.outages import is_unreachable
from phonofilm.serving.engines.engine_watch import EngineWatch
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.jobs.job_queue import find_all
from phonofilm.serving.jobs.roster import (
    BUSY,
    ENGINE_AWAY,
    READY,
    STARTING,
    WorkerReport,
    remove_worker,
    report_worker,
    write_setting,
)
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.belonging import require_own_store
from phonofilm.serving.store.interface import Store, open_store
from phonofilm.serving.worker.failures import failure_of, is_disk_error, without_paths
from phonofilm.serving.worker.held_job import CANCEL, LOST, STALLED, STOPPING, HeldJob, Stuck
from phonofilm.serving.worker.ids import new_worker_id
from phonofilm.serving.worker.maker import JobMaker, discard

logger = logging.getLogger(__name__)
T = TypeVar("T")

IDLE_SECONDS = 0.2
REPORT_SECONDS = 5.0
# Of processor time between two reports of a worker that starts: one that reads weights or waits for a download needs more.
LEAST_WORK = 0.001
# A finished clip waits this long for a database that is away.
PATIENCE_SECONDS = 600.0


def seconds_worked(apart: Collection[int] = ()) -> float:
    """Processor time of this process and of those that it started, without this thread's and that of the threads `apart`."""
    here, children = psutil.Process(), 0.0
    for child in here.children(recursive=True):
        with suppress(psutil.Error):
            children += sum(child.cpu_times()[:2])
    if not apart:
        return children + time.process_time() - time.thread_time()
    left_out = {*apart, threading.get_native_id()}
    return children + sum(one.user_time + one.system_time for one in here.threads() if one.id not in left_out)


@dataclass
class Worker:
    """One process's work, until `stop` is set; then a running clip has `settings.grace` seconds, and goes back to the queue.

    apart: threads of this process, by native id, whose work is not the worker's. end_process: ends it, where another takes its
    place.
    """

    settings: WorkerSettings
    maker: JobMaker
    id: str = field(default_factory=new_worker_id)
    stop: threading.Event = field(default_factory=threading.Event)
    apart: Collection[int] = ()
    end_process: Callable[[], None] | None = None
    _state: str = field(default=STARTING, init=False)
    _changed: threading.Event = field(default_factory=threading.Event, init=False)
    _reporting: threading.Lock = field(default_factory=threading.Lock, init=False)
    _has_reported: bool = field(default=False, init=False)
    _has_left: bool = field(default=False, init=False)

    @property
    def is_starting(self) -> bool:
        """Whether the first model is still being loaded."""
        return self._state == STARTING

    def run(self) -> None:
        """Load the first model and work. Raises PhonofilmError when it, the database's URL or the store cannot be used."""
        self.database: Database = open_database(self.settings.database_url, may_create=False)
        self.store: Store = open_store(self.settings.store)
        if self.settings.keeps_store:
            self._patiently(partial(require_own_store, self.database, self.store, self.settings.store))
        self.claims = Claims(self.database, self.id, self.settings.lease)
        self.held: HeldJob | None = None
        self.engine = None if self.settings.engine is None else EngineWatch(self.settings.engine)
        reporting = threading.Thread(target=self._report_often, name="report", daemon=True)
        reporting.start()
        for model, facts in self.maker.open().items():
            self._patiently(partial(write_setting, self.database, f"facts:{model}", facts))
        logger.info("worker %s is ready with %s", self.id, self.settings.default_model)
        self._state = READY
        self._report()
        try:
            while not self.stop.is_set():
                self._turn()
        finally:
            self.leave()
            self.maker.close()

    def leave(self) -> None:
        """Take this worker out of the table, so that nobody counts it from now on, whatever a thread of it still reports."""
        with self._reporting, suppress(DBAPIError):
            self._has_left = True
            if self._has_reported:
                remove_worker(self.database, self.id)

    def ask_to_stop(self) -> None:
        """Take no more jobs; what runs has `grace` seconds. May be called from a signal handler."""
        self.stop.set()
        threading.Thread(target=self._hurry, name="grace", daemon=True).start()

    def _hurry(self) -> None:
        time.sleep(self.settings.grace)
        if (held := self.held) is not None:
            held.why = held.why or STOPPING

    def _turn(self) -> None:
        try:
            job = self.claims.claim(list(self.settings.models), self.maker.loaded, self.settings.switch_after)
        except DBAPIError as error:
            if not is_unreachable(error):
                raise
            self.stop.wait(1.0)
            return
        if job is None:
            self.stop.wait(IDLE_SECONDS)
            return
        self._turn_to(BUSY)
        logger.info("job %s: attempt %d", job.id, job.attempt)
        stuck = None if self.end_process is None else Stuck(self.settings.cancel, self.end_process)
        self.held = HeldJob(self.claims, job, self.settings.stall, self.settings.keep, stuck)
        with self.held.renewing():
            self._work(job, self.held)
        self.held = None
        self._turn_to(READY)

    def _work(self, job: Job, held: HeldJob) -> None:
        """Make the job and end it in the table. Only what is a bug of ours, or of the machine, is logged with its traceback."""
        keep = self.settings.keep
        try:
            if job.preview is not None:  # of the attempt before, whose worker may have been killed
                self.store.delete(job.preview)
            self._publish(job, self.maker.make(job, held, self.store))
        except Cancelled:
            self._stopped(job, held)
        except PhonofilmError as error:
            code, message = failure_of(error)
            if code == "storage_error":
                logger.error("job %s: %s", job.id, without_paths(str(error), self.settings.store, {}))
            else:
                logger.info("job %s failed: %s", job.id, type(error).__name__)
            said = without_paths(message, self.settings.store, self.settings.loras)
            self._patiently(lambda: self.claims.fail(job, code, said, keep, held.finished))
        except Exception as error:
            logger.exception("job %s failed", job.id)
            full = is_disk_error(error)
            reason = "the disk is full or broken" if full else f"an unexpected error ({type(error).__name__})"
            code, said = "storage_error" if full else "internal_error", f"{reason}; the server's log says more"
            self._patiently(lambda: self.claims.fail(job, code, said, keep, held.finished))

    def _publish(self, job: Job, made: MadeClips) -> None:
        done = self._patiently(
            lambda: self.claims.complete(job, made.outputs, made.about, made.nbytes, self.settings.keep)
        )
        if done:
            logger.info("job %s is completed after %.1f s", job.id, made.about["inference_time_s"])
        else:
            logger.warning("job %s was taken up by another worker; this clip is thrown away", job.id)
            now = (self._patiently(lambda: find_all(self.database, [job.id])) or {}).get(job.id)
            published = [] if now is None else now.outputs
            discard(self.store, [one for one in made.outputs if one not in published])

    def _stopped(self, job: Job, held: HeldJob) -> None:
        logger.info("job %s stops: %s", job.id, held.why)
        if held.why == CANCEL:
            self._patiently(lambda: self.claims.cancel(job, self.settings.keep, held.finished))
        elif held.why in (STOPPING, STALLED):
            self._patiently(lambda: self.claims.release(job))
        else:
            assert held.why == LOST

    def _patiently(self, statement: Callable[[], T]) -> T | None:
        """Run a statement, waiting for a database that is away. The lease decides what follows.

        A worker that is to stop waits no longer than its lease: another one may take the job up then.
        """
        until, is_stopping = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            try:
                return statement()
            except DBAPIError as error:
                if self.stop.is_set() and not is_stopping:
                    until, is_stopping = min(until, time.monotonic() + self.settings.lease), True
                if not is_unreachable(error) or time.monotonic() > until:
                    raise
                time.sleep(1.0)

    def _turn_to(self, state: str) -> None:
        """Be in another state, which the thread that reports says at once: this one has a job to go on with."""
        self._state = state
        self._changed.set()

    def _report_often(self) -> None:
        """Say that this worker lives, at once when its state changes.

        While it starts, only as long as something is done: this thread lives anyway.
        """
        worked = -math.inf
        while True:
            now = seconds_worked(self.apart)
            # The time of a thread that has ended is no longer counted: that it ended is a sign of life too.
            if not self.is_starting or abs(now - worked) > LEAST_WORK:
                worked = now
                self._report()
            self._changed.wait(REPORT_SECONDS)
            self._changed.clear()
            if self.stop.is_set():
                return

    def _report(self) -> None:
        memory = float(psutil.Process().memory_info().rss)
        models = [*self.maker.loaded, *(name for name in self.settings.models if name not in self.maker.loaded)]
        is_away = self.engine is not None and not self.is_starting and self.engine.is_away()
        # The state is read where no other thread writes an earlier one after it.
        with self._reporting, suppress(DBAPIError):
            if self._has_left:
                return
            self._has_reported = True
            state = ENGINE_AWAY if is_away else self._state
            report_worker(self.database, WorkerReport(self.id, state, models, memory))
