"""The one question that is asked thousands of times, answered before FastAPI: GET /v1/videos/{id} of who is known already.

The answer is the route's own (videos.get_video), byte for byte. Whatever is not plain (a browser's session, a key that has to be
looked up, a job that is not there, a model that no worker has opened yet, a database that is away) is left to the route.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from phonofilm.serving.api.answers import POLL_HEADER, described, is_at_hand
from phonofilm.serving.api.objects import poll_after
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.job import Job
from phonofilm.serving.security.access import READ, Access

ASKED = re.compile(r"/v1/videos/(\w{1,64})", re.ASCII)
ROUTE = "/v1/videos/{video_id}"
MOST_KEPT = 1000


@dataclass(frozen=True)
class _Route:
    """What the log says of the request, as of one that FastAPI answers."""

    path: str = ROUTE


@dataclass
class StatusPolls:
    """Stands before `app`. A job is written out once for all who ask while the same read of the database holds."""

    app: ASGIApp
    services: Services
    _written: dict[tuple[str, str], tuple[Job, bytes]] = field(default_factory=dict)
    _addresses: dict[tuple[str, bytes, str], str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job, owner = await self._found(scope)
        if job is None:
            await self.app(scope, receive, send)
            return
        content = self._content(job, scope)
        headers = [(b"content-length", str(len(content)).encode()), (b"content-type", b"application/json")]
        if (after := poll_after(job, time.time())) is not None:
            headers.append((POLL_HEADER.encode(), str(after).encode()))
        scope["route"] = _Route()
        scope.setdefault("state", {})["owner"] = owner
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _found(self, scope: Scope) -> tuple[Job | None, str]:
        """The job that is asked for and who asks; None for what the route has to answer."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return None, ""
        asked = ASKED.fullmatch(scope["path"])
        access = None if asked is None else self._access(scope)
        if asked is None or access is None:
            return None, ""
        try:
            job = await self.services.reader.find(asked[1], access)
        except DBAPIError:
            return None, ""
        if job is None or not is_at_hand(self.services, job):
            return None, ""
        return job, access.owner

    def _access(self, scope: Scope) -> Access | None:
        """The rights of a key that was let in a moment ago, or of everybody where there are no keys."""
        key = None
        for name, value in scope["headers"]:
            if name == b"cookie":
                return None
            if name == b"authorization":
                kind, _, credentials = value.decode("latin-1").partition(" ")
                if kind.lower() != "bearer" or not credentials or key is not None:
                    return None
                key = credentials
        found = self.services.keyring.recall(key)
        return found.access if found is not None and found.access.may(READ) else None

    def _content(self, job: Job, scope: Scope) -> bytes:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        where = (scope["scheme"], host, scope.get("root_path", ""))
        address = self._addresses.get(where)
        if address is None:
            if len(self._addresses) >= MOST_KEPT:
                self._addresses.clear()
            address = self._addresses[where] = str(HTTPConnection(scope).base_url)
        kept = self._written.get((job.id, address))
        if kept is not None and kept[0] is job:
            return kept[1]
        if len(self._written) >= MOST_KEPT:
            self._written.clear()
        content = described(self.services, job, address).model_dump_json().encode()
        self._written[job.id, address] = job, content
        return content
