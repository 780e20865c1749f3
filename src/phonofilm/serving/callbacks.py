"""Telling a client's own server that a job has ended: signed, only to public addresses, tried again for a while.

The signature is that of Standard Webhooks, which OpenAI's clients verify: HMAC-SHA256 over "id.time.body".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from dataclasses import dataclass, field

from sqlalchemy import select, update

from phonofilm.errors import InputError
from phonofilm.serving.api.objects import video_object
from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import Job, job_of
from phonofilm.serving.jobs.roster import model_facts
from phonofilm.serving.security.public_http import PublicHttp

logger = logging.getLogger(__name__)

TRIES = 6
FIRST_PAUSE = 10.0
HELD_SECONDS = 120.0


@dataclass(frozen=True)
class Callbacks:
    """Sends what is due. `secret`: what receivers verify with, as "whsec_..." (base64) or any text."""

    database: Database
    secret: str
    web: PublicHttp = field(default_factory=PublicHttp)

    def send_due(self, stop: threading.Event | None = None) -> int:
        """Send the callbacks whose time has come, one server each, until `stop` is set; the number sent."""
        sent = 0
        while (stop is None or not stop.is_set()) and (job := self._take()) is not None:
            self._send(job)
            sent += 1
        return sent

    def _take(self) -> Job | None:
        """The next one, put off for a while so that no other server sends it too."""
        due = (
            select(JOB.c.id)
            .where(JOB.c.callback_due < DatabaseNow())
            .order_by(JOB.c.callback_due)
            .limit(1)
            .with_for_update(skip_locked=True)
            .correlate(None)
            .scalar_subquery()
        )
        statement = (
            update(JOB)
            .where(JOB.c.id == due)
            .values(callback_due=DatabaseNow() + HELD_SECONDS, callback_tries=JOB.c.callback_tries + 1)
            .returning(*JOB.c)
        )
        with self.database.write() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else job_of(row)

    def _send(self, job: Job) -> None:
        assert job.callback_url is not None
        data = video_object(job, "", model_facts(self.database, job.model)).model_dump(
            mode="json", exclude={"prompt", "url", "urls"}
        )
        event = {"id": f"evt_{job.id}", "object": "event", "type": f"video.{job.status}", "data": data}
        body = json.dumps(event | {"created_at": int(time.time())}).encode()
        try:
            status = self.web.post(job.callback_url, body, signed_headers(self.secret, f"evt_{job.id}", body))
        except InputError as error:
            logger.info("callback of %s: %s", job.id, error)
            status = 0
        done = 200 <= status < 300
        if not done and job.callback_tries < TRIES:
            due = DatabaseNow() + FIRST_PAUSE * 4 ** (job.callback_tries - 1)
        else:
            due = None
            logger.info("callback of %s: %s", job.id, "delivered" if done else "given up")
        with self.database.write() as connection:
            connection.execute(update(JOB).where(JOB.c.id == job.id).values(callback_due=due))


def signed_headers(secret: str, event_id: str, body: bytes, at: int | None = None) -> dict[str, str]:
    """The headers that let a receiver check who sent `body`, and when."""
    at = int(time.time()) if at is None else at
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
