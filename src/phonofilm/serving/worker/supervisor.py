"""The worker processes of a server: started, watched, and started again when they die or fall silent."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.claims import expire_leases, give_back
from phonofilm.serving.jobs.roster import remove_worker
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.worker.ids import CANNOT_START, new_worker_id
from phonofilm.serving.worker.silence import Silence

logger = logging.getLogger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "phonofilm.serving.worker.process")
LOOK_SECONDS = 0.2
LONGEST_PAUSE = 30.0
HEALTHY_SECONDS = 60.0
# Beyond its grace, a worker that stops has so long: a step cannot be broken off.
LAST_STEP_SECONDS = 15.0


@dataclass
class _Place:
    """One worker's place: the process in it, since when, how often it died young, and how long it has been silent."""

    process: subprocess.Popen[str] | None = None
    worker: str = ""
    since: float = 0.0
    deaths: int = 0
    next_start: float = 0.0
    silence: Silence = field(default_factory=lambda: Silence(""))


@dataclass
class WorkerProcesses:
    """`count` workers. `on_hopeless` is called when a worker says that it can never start (a broken checkpoint).

    They are in sessions of their own: a Ctrl-C in the terminal reaches the server, which alone says when they stop.
    """

    settings: WorkerSettings
    database: Database
    count: int
    on_hopeless: Callable[[], None]
    command: Sequence[str] = WORKER_COMMAND
    _places: list[_Place] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._places = [_Place() for _ in range(self.count)]
        self._thread = threading.Thread(target=self._watch, name="workers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask all to stop, and wait until they have. Those that take too long are killed, and all when this is interrupted.

        Jobs of killed ones go back to the queue without a strike: the clip was not to blame.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        running = [(place.worker, place.process) for place in self._places if place.process is not None]
        try:
            for _, process in running:
                process.terminate()
            until = time.monotonic() + self.settings.grace + LAST_STEP_SECONDS
            for _, process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, until - time.monotonic()))
        finally:
            for worker, process in running:
                process.kill()
                process.wait()
                with suppress(DBAPIError):
                    give_back(self.database, worker)
                    remove_worker(self.database, worker)

    @property
    def are_coming(self) -> bool:
        """Whether a worker is starting, or is about to be started in another's place."""
        is_coming = (place.process is None or place.silence.reported is None for place in self._places)
        return not self._stop.is_set() and any(is_coming)

    @property
    def come_with_jobs(self) -> bool:
        """Whether some are started only for jobs: none are, they are started with the server."""
        return False

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for place in self._places:
                if place.process is None:
                    if time.monotonic() >= place.next_start:
                        self._start(place)
                elif (code := place.process.poll()) is not None:
                    self._bury(place, code)
                elif place.silence.is_due:
                    self._listen(place)

    def _start(self, place: _Place) -> None:
        place.worker = new_worker_id()
        place.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        place.since, place.silence = time.monotonic(), Silence(place.worker)
        assert place.process.stdin is not None
        # The pipe stays open as long as this process lives: its end tells the worker to stop. No secret is in the command.
        with suppress(BrokenPipeError):
            place.process.stdin.write(json.dumps({"settings": self.settings.to_json(), "worker": place.worker}) + "\n")
            place.process.stdin.flush()

    def _listen(self, place: _Place) -> None:
        """Kill a worker that has been silent for too long: a new one takes its place."""
        fault = place.silence.listen(self.database, self.settings)
        if fault is not None and place.process is not None:
            logger.error("worker %s %s", place.worker, fault)
            place.process.kill()

    def _bury(self, place: _Place, code: int) -> None:
        if code == CANNOT_START:
            self.on_hopeless()
            self._stop.set()
            return
        young = time.monotonic() - place.since < HEALTHY_SECONDS
        place.deaths = place.deaths + 1 if young else 1
        pause = 0.0 if place.deaths == 1 else min(LONGEST_PAUSE, 2.0 ** (place.deaths - 2))
        logger.warning("worker %s ended with code %d; starting another in %.0f s", place.worker, code, pause)
        with suppress(DBAPIError):
            expire_leases(self.database, place.worker)
            remove_worker(self.database, place.worker)
        place.process, place.next_start = None, time.monotonic() + pause
