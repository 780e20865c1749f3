"""A job while a worker has it: progress goes into the table at every step, and what the table says comes back.

A thread renews the lease while a step lasts long. It does so only while the work itself shows progress.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from phonofilm.generation.report import Event, Loading, Preview, SamplingStarted, StageStarted, StepDone
from phonofilm.serving.database.outages import is_unreachable
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import Job, MadeClips

logger = logging.getLogger(__name__)

CANCEL, LOST, STOPPING, STALLED = "cancel", "lost", "stopping", "stalled"
LOADING_SECONDS = 0.5
PREVIEW_SECONDS = 2.0


@dataclass(frozen=True)
class Stuck:
    """What follows when the step of a cancelled job does not end within `seconds`: another process takes this one's place."""

    seconds: float
    end_process: Callable[[], None]


class HeldJob:
    """Listens to a run (it is an `OnProgress`) and returns False when the run should stop; `why` says the reason.

    `finished`: the clips that were made so far; clients may have them for `keep` seconds. `keep_preview` stores a picture and
    returns its name; without it none are made. `stuck`: None where nobody would take this process's place.
    """

    def __init__(
        self, claims: Claims, job: Job, stall: float, keep: float | None = None, stuck: Stuck | None = None
    ) -> None:
        self.claims, self.job, self.stall, self.keep_seconds = claims, job, stall, keep
        self.stuck = stuck
        self.why: str | None = None
        self.finished: MadeClips | None = None
        self._clip = ""
        self._expected = 0
        self._done = 0
        self._latest = 0
        self._moved = time.monotonic()
        self._step_began = self._moved
        self._step_seconds: list[float] = []
        self._written = 0.0
        self._previewed = 0.0
        self.keep_preview: Callable[[Preview], str] | None = None
        self._ended = threading.Event()

    def __call__(self, event: Event) -> bool:
        self._moved = time.monotonic()
        match event:
            case SamplingStarted(experts):
                self._done, self._latest = self._done + self._latest, 0
                steps = max(self._expected, self._done + len(experts))
                self.write(stage=self._of_clip("sampling"), step=self._done, steps=steps)
                self._step_began = time.monotonic()
            case StepDone(done, total, _, preview):
                self._latest = done
                self._step_seconds.append(self._moved - self._step_began)
                shown = self._shown(preview) if preview is not None and done < total else {}
                self.write(step=self._done + done, **shown)
                self._step_began = time.monotonic()
            case StageStarted(name):
                self.write(stage=self._of_clip(name))
            case Loading(component) if time.monotonic() - self._written > LOADING_SECONDS:
                self.write(stage=self._of_clip(f"loading {component}"))
        return self.why is None

    def begin_clip(self, number: int, steps: int) -> None:
        """Clip `number` (from 0) is what is made from now on, in so many steps over every part of it, as each of the others."""
        count = len(self.job.request.seeds)
        self._clip = f"clip {number + 1} of {count}: " if count > 1 else ""
        self._expected = count * steps
        self._done, self._latest = number * steps, 0

    def keep(self, made: MadeClips) -> None:
        """So much is finished: clients can have it now, and it stays if the rest is cancelled or fails.

        The last clip is published as the job is completed. While the database is away the clips wait for the next one.
        """
        self.finished = made
        if len(made.outputs) < len(self.job.request.seeds):
            self._tell(lambda: self.claims.publish(self.job, made, self.keep_seconds))

    def _of_clip(self, stage: str) -> str:
        return f"{self._clip}{stage}"[:80]

    @property
    def seconds_per_step(self) -> float | None:
        """The mean over the steps that were made; None before the first."""
        return sum(self._step_seconds) / len(self._step_seconds) if self._step_seconds else None

    def _shown(self, preview: Preview) -> dict[str, str]:
        """The stored name of a new preview, if it is time for one."""
        if self.keep_preview is None or time.monotonic() - self._previewed < PREVIEW_SECONDS:
            return {}
        name = self.keep_preview(preview)
        self._previewed = time.monotonic()
        return {"preview": name}

    def write(self, **progress: Any) -> None:
        """Write progress into the table."""
        self._tell(lambda: self.claims.renew(self.job, **progress))

    def _tell(self, statement: Callable[[], bool | None]) -> None:
        """Tell the table; learn whether to go on. A database that is away for a while does not stop the work."""
        self._written = time.monotonic()
        try:
            answer = statement()
        except DBAPIError as error:
            if not is_unreachable(error):
                raise
            return
        if answer is not True:
            self.why = self.why or (LOST if answer is None else CANCEL)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """While open, the lease is renewed in the background."""
        thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _renew(self) -> None:
        cancelled: float | None = None
        while not self._ended.wait(self.claims.lease / 3):
            if time.monotonic() - self._moved > self.stall:
                self.why = self.why or STALLED
                logger.error("job %s shows no progress since %.0f s; its lease is let go", self.job.id, self.stall)
                return
            if self.why == CANCEL and cancelled is None:
                cancelled = time.monotonic()
                logger.info("job %s is to be cancelled; waiting until its step has ended", self.job.id)
            elif cancelled is not None and self.stuck and time.monotonic() - cancelled > self.stuck.seconds:
                self._end_stuck(self.stuck)
            self.write()

    def _end_stuck(self, stuck: Stuck) -> None:
        """End the job in the table, and then the process, unless the step has ended. Tried again while the table is away."""
        try:
            self.claims.cancel(self.job, self.keep_seconds, self.finished)
        except DBAPIError as error:
            if not is_unreachable(error):
                raise
            return
        if not self._ended.is_set():
            logger.error(
                "job %s was cancelled, and its step does not end; another worker takes this one's place", self.job.id
            )
            stuck.end_process()
