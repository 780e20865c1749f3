"""How long a worker has given no sign of life, by what it reports to the table. Who replaces it is elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.roster import STARTING, last_report
from phonofilm.serving.settings import WorkerSettings

# How often it is asked whether a worker was heard of, and after how many leases' lengths of silence it is replaced; one that
# starts, after the settings' `start`. Workers report every five seconds; on a machine with far too much to do, much later.
LISTEN_SECONDS = 5.0
SILENT_LEASES = 10


@dataclass
class Silence:
    """What was last heard of `worker`, and how often in a row nothing newer was.

    Times of asking are counted instead of seconds, so that neither a pause of this process nor a database that is away is
    held against it.
    """

    worker: str
    times: int = 0
    reported: tuple[float, str] | None = None
    listened: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """Whether it is time to listen again."""
        return time.monotonic() - self.listened >= LISTEN_SECONDS

    def listen(self, database: Database, settings: WorkerSettings) -> str | None:
        """Ask once. What has been wrong with the worker for too long (it hangs, or was stopped), or None."""
        self.listened = time.monotonic()
        try:
            reported = last_report(database, self.worker)
        except DBAPIError:
            self.times = 0
            return None
        if reported is not None and reported != self.reported:
            self.reported, self.times = reported, 0
        else:
            self.times += 1
        starts = self.reported is None or self.reported[1] == STARTING
        limit = settings.start if starts else SILENT_LEASES * settings.lease
        if self.times * LISTEN_SECONDS <= limit:
            return None
        return f"{'is starting' if starts else 'lives'} and gave no sign of life for {limit:.0f} s"
