"""What a server does beside answering: lost jobs, expired clips, orphaned files, callbacks; in one thread."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from phonofilm.serving.callbacks import Callbacks
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.sweep import sweep_files, sweep_jobs
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
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSING_SECONDS)

    def _work(self) -> None:
        files_at = time.monotonic() + FILES_SECONDS / 10
        while not self._stop.wait(JOBS_SECONDS):
            try:
                sweep_jobs(self.database, self.store, self.keep)
                purge_old(self.database, self.store, TRASH_SECONDS)
                if self.callbacks is not None:
                    self.callbacks.send_due(self._stop)
                if time.monotonic() > files_at:
                    files_at = time.monotonic() + FILES_SECONDS
                    sweep_files(self.database, self.store)
            except (DBAPIError, StoreError) as error:
                logger.warning("housekeeping has to wait: %s", type(error).__name__)
            except Exception:
                # If this thread ended, nothing would expire or be called back, and nobody would know.
                logger.exception("housekeeping failed")
