"""Telling a client's own server that a job has ended: signed, only to public addresses, tried again for a while.

Several are sent at once, a few of them to one receiver, so that one which does not answer holds up no other's. A job has one
event, and one try of it runs at a time.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from phonofilm.errors import InputError
from phonofilm.serving.api.objects import video_object
from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import Job, job_of
from phonofilm.serving.jobs.roster import model_facts
from phonofilm.serving.security.callback_signing import signed_headers
from phonofilm.serving.security.public_http import PublicHttp

logger = logging.getLogger(__name__)

TRIES = 6
FIRST_PAUSE = 10.0
HELD_SECONDS = 120.0
# Sent at once, and of those to one receiver: more of its own wait for it, and for nobody else.
MOST_AT_ONCE, MOST_TO_ONE = 16, 4
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Callbacks:
    """Sends what is due. `key`: what it is signed with."""

    database: Database
    key: bytes
    web: PublicHttp = field(default_factory=PublicHttp)
    _sending: Counter[str] = field(default_factory=Counter)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def send_due(self, stop: threading.Event | None = None) -> int:
        """Send the callbacks whose time has come, and those that become due meanwhile; the number sent.

        None is begun once `stop` is set; those on their way are waited for.
        """
        sent = 0
        while True:
            due = [] if stop is not None and stop.is_set() else self._due()
            begun = sum(self._begin(job_id, receiver) for job_id, receiver in due)
            sent += begun
            with self._changed:
                if not begun and not self._sending.total():
                    return sent
                if not begun:
                    self._changed.wait(LOOK_SECONDS)

    def _due(self) -> list[tuple[str, str]]:
        """The jobs whose callbacks are due, each with its receiver; those that are longest due first."""
        due = select(JOB.c.id, JOB.c.callback_url).where(JOB.c.callback_due < DatabaseNow())
        with self.database.read() as connection:
            rows = connection.execute(due.order_by(JOB.c.callback_due).limit(1000)).all()
        return [(str(row.id), urlsplit(row.callback_url).netloc) for row in rows]

    def _begin(self, job_id: str, receiver: str) -> bool:
        """Send this one in a thread of its own, if there is room and no other server has it."""
        with self._changed:
            if self._sending.total() >= MOST_AT_ONCE or self._sending[receiver] >= MOST_TO_ONE:
                return False
        job = self._take(job_id)
        if job is None:
            return False
        with self._changed:
            self._sending[receiver] += 1
        # A daemon: a receiver that does not answer does not keep the server from ending; the callback is sent again.
        threading.Thread(target=self._send_and_leave, args=(job, receiver), name="callback", daemon=True).start()
        return True

    def _take(self, job_id: str) -> Job | None:
        """This one, put off for a while so that no other server sends it too; None where another has done so."""
        statement = (
            update(JOB)
            .where(JOB.c.id == job_id, JOB.c.callback_due < DatabaseNow())
            .values(callback_due=DatabaseNow() + HELD_SECONDS, callback_tries=JOB.c.callback_tries + 1)
            .returning(*JOB.c)
        )
        with self.database.write() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else job_of(row)

    def _send_and_leave(self, job: Job, receiver: str) -> None:
        try:
            self._send(job)
        except DBAPIError as error:
            logger.warning("callback of %s: the database is away (%s); it is sent again", job.id, type(error).__name__)
        except Exception:
            # Nobody waits for this thread; the callback is due again after HELD_SECONDS.
            logger.exception("callback of %s", job.id)
        finally:
            with self._changed:
                self._sending[receiver] -= 1
                self._changed.notify_all()

    def _send(self, job: Job) -> None:
        fault = self._fault(job)
        due = None
        if fault is None:
            logger.info("callback of %s: delivered", job.id)
        else:
            again = job.callback_tries < TRIES
            pause = FIRST_PAUSE * 4 ** (job.callback_tries - 1)
            due = DatabaseNow() + pause if again else None
            way_on = f"again in {pause:.0f} s" if again else "given up"
            logger.warning("callback of %s: try %d of %d: %s; %s", job.id, job.callback_tries, TRIES, fault, way_on)
        with self.database.write() as connection:
            connection.execute(update(JOB).where(JOB.c.id == job.id).values(callback_due=due))

    def _fault(self, job: Job) -> str | None:
        """Send the event; why the receiver has not taken it, without its address, or None."""
        assert job.callback_url is not None
        data = video_object(job, "", model_facts(self.database, job.model)).model_dump(
            mode="json", exclude={"prompt", "url", "urls"}
        )
        event = {"id": f"evt_{job.id}", "object": "event", "type": f"video.{job.status}", "data": data}
        body = json.dumps(event | {"created_at": int(time.time())}).encode()
        try:
            status = self.web.post(job.callback_url, body, signed_headers(self.key, f"evt_{job.id}", body))
        except InputError as error:
            return str(error)
        return None if 200 <= status < 300 else f"the receiver answered with status {status}"
