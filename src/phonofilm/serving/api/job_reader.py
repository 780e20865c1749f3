"""Looking jobs up for many clients at once: those that ask while one read of the database runs share the next one."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.job import Job
from phonofilm.serving.jobs.job_queue import JOB_ID, find_all
from phonofilm.serving.security.access import Access

# Reads begin no more often than this: a lone client never waits for it, hundreds share.
SECONDS_BETWEEN_READS = 0.02
Waiting = dict[str, list[Future[Job | None]]]


@dataclass
class _Reads:
    """The requests of one event loop that wait for the next read, and the task that reads."""

    waiting: Waiting = field(default_factory=dict)
    began: float = 0.0
    task: asyncio.Task[None] | None = None


@dataclass
class JobReader:
    """Every answer was read after it was asked for. The more ask, the fewer statements and threads each of them costs."""

    database: Database
    _reads: WeakKeyDictionary[AbstractEventLoop, _Reads] = field(default_factory=WeakKeyDictionary)

    async def find(self, job_id: str, access: Access) -> Job | None:
        """The job, if there is one that this key may see."""
        if JOB_ID.fullmatch(job_id) is None:
            return None
        loop = asyncio.get_running_loop()
        reads = self._reads.setdefault(loop, _Reads())
        future: Future[Job | None] = loop.create_future()
        reads.waiting.setdefault(job_id, []).append(future)
        if reads.task is None or reads.task.done():
            reads.task = loop.create_task(self._read(reads))
        job = await future
        return job if job is not None and (access.sees_all or job.owner == access.owner) else None

    async def _read(self, reads: _Reads) -> None:
        loop = asyncio.get_running_loop()
        while reads.waiting:
            await asyncio.sleep(reads.began + SECONDS_BETWEEN_READS - loop.time())
            reads.began = loop.time()
            asked, reads.waiting = reads.waiting, {}
            reading = loop.run_in_executor(None, find_all, self.database, list(asked))
            await asyncio.wait([reading])
            _give(asked, reading)


def _give(asked: Waiting, reading: Future[dict[str, Job]]) -> None:
    """Hand the jobs, or what went wrong, to those who still wait."""
    error = reading.exception()
    for job_id, futures in asked.items():
        for future in futures:
            if future.done():  # the client has gone
                continue
            if error is None:
                future.set_result(reading.result().get(job_id))
            else:
                future.set_exception(error)
