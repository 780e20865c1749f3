"""What a server does beside answering: lost jobs, expired clips, orphaned files; in one thread, and callbacks in another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from phonofilm.serving.callbacks import Callbacks
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.outages import is_unreachable
from phonofilm.serving.jobs.sweep import show_that_it_can_be_written, sweep_files, sweep_jobs
from phonofilm.serving.library.changes import TRASH_SECONDS, purge_old
from phonofilm.serving.store.interface import Store, StoreError

logger = logging.getLogger(__name__)

JOBS_SECONDS = 2.0
FILES_SECONDS = 600.0
# A callback to a server that does not answer, or a sweep, is not waited for longer when this one stops; both are done again.
CLOSING_SECONDS = 5.0


@dataclass
class Housekeeping:
    """`keep`: seconds that clips are kept; None for ever. `callbacks`: None where they are off."""

    database: Database
    store: Store
    keep: float | None
    callbacks: Callbacks | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        work = {"housekeeping": self._sweep_often, **({} if self.callbacks is None else {"callbacks": self._call_back})}
        self._threads = [threading.Thread(target=one, name=name, daemon=True) for name, one in work.items()]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        until = time.monotonic() + CLOSING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _sweep_often(self) -> None:
        files_at = time.monotonic() + FILES_SECONDS / 10

        def sweep() -> None:
            nonlocal files_at
            sweep_jobs(self.database, self.store, self.keep)
            purge_old(self.database, self.store, TRASH_SECONDS)
            show_that_it_can_be_written(self.database)
            if time.monotonic() > files_at:
                files_at = time.monotonic() + FILES_SECONDS
                sweep_files(self.database, self.store)

        self._often(sweep)

    def _call_back(self) -> None:
        """In a thread of its own: a receiver that does not answer holds up no sweep."""
        assert self.callbacks is not None
        self._often(partial(self.callbacks.send_due, self._stop))

    def _often(self, work: Callable[[], object]) -> None:
        while not self._stop.wait(JOBS_SECONDS):
            try:
                work()
            except StoreError as error:
                logger.warning("housekeeping has to wait: %s", type(error).__name__)
            except Exception as error:
                if is_unreachable(error):
                    continue
                # If this thread ended, nothing would expire or be called back, and nobody would know.
                logger.exception("housekeeping failed")
