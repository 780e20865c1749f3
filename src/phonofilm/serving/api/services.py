"""What the routes work with: the database, the store, the settings; and who is asking."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import DBAPIError

from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.job_reader import JobReader
from phonofilm.serving.api.translate import RequestChecks
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.job import JobRequest
from phonofilm.serving.jobs.job_queue import Room
from phonofilm.serving.jobs.roster import model_facts
from phonofilm.serving.library.clips import length_of
from phonofilm.serving.security.access import ADMIN, READ, WRITE, Access
from phonofilm.serving.security.browser_sessions import COOKIE
from phonofilm.serving.security.keyring import REMEMBERED_SECONDS, Admitted, Keyring
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.side_process import Runner, SideProcess
from phonofilm.serving.store.interface import Store

BEARER = HTTPBearer(auto_error=False, description="A key of `phonofilm serve keys create`.")
# Its first answer comes after PyTorch is imported, which takes minutes on a machine with much else to do.
PLANNER_SECONDS = 300.0
SESSION = APIKeyCookie(name=COOKIE, auto_error=False, description="The studio's session, of POST /studio/session.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
Cookie = Annotated[str | None, Depends(SESSION)]


@dataclass(frozen=True)
class ApiSettings:
    """What the server allows.

    hosts: the names it answers to while it has no keys. key_seconds: for how long a key that was valid is not looked up
    again. sync_timeout, stream_seconds: after which an answer that waits for its job, and a stream of events, end.
    callback_hosts: receivers of callbacks, each with a port, that are private or on another port than 80 and 443.
    imports: folders whose clips administrators may bring into the library; runs: folders with training runs to follow.
    command: what starts such a server, for the page's advice.
    """

    room: Room = field(default_factory=Room)
    allow_callbacks: bool = False
    callback_hosts: frozenset[tuple[str, int]] = frozenset()
    sync_timeout: float = 3600.0
    stream_seconds: float = math.inf
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]", "testserver")
    body_seconds: float = 30.0
    imports: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    key_seconds: float = REMEMBERED_SECONDS
    command: str = "phonofilm serve"


# Threads that put requests into the table. With one for each of many submissions, whoever asks for a state waits for all of them.
ENTERING = 2
# Prompts that are written at once: each holds a thread until the writing model's server answers.
WRITING = 4


@dataclass
class Services:
    """Everything the routes need; one for each server. media decodes files; planner imports PyTorch and plans clips.

    started_at: of the server, in seconds since 1970. workers_come: whether a worker of this server is on its way.
    workers_come_with_jobs: whether one is started as soon as a job waits, and none before.
    """

    database: Database
    store: Store
    worker: WorkerSettings
    api: ApiSettings = field(default_factory=ApiSettings)
    closing: threading.Event = field(default_factory=threading.Event)
    media: Runner = field(default_factory=lambda: SideProcess("media"))
    planner: Runner = field(default_factory=lambda: SideProcess("planner", PLANNER_SECONDS))
    entering: Executor = field(default_factory=lambda: ThreadPoolExecutor(ENTERING, "phonofilm-entering"))
    started_at: float = field(default_factory=time.time)
    workers_come: Callable[[], bool] = lambda: False
    workers_come_with_jobs: Callable[[], bool] = lambda: False
    writing: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(WRITING))
    keyring: Keyring = field(init=False)
    reader: JobReader = field(init=False)
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def checks(self, model: str, request: JobRequest) -> RequestChecks:
        """What a request for this model is checked against."""
        sglang = None if self.worker.engine is None else model
        seconds = length_of(self.database, request.sources.get("video"))
        return RequestChecks(self.worker.limits, self.worker.loras, self.facts(model), sglang, seconds)

    def __post_init__(self) -> None:
        self.keyring, self.reader = Keyring(self.database, self.api.key_seconds), JobReader(self.database)

    def close(self) -> None:
        """End the processes beside the server."""
        self.media.close()
        self.planner.close()

    def knows(self, model: str) -> bool:
        """Whether `facts` answers without a look into the database."""
        return model in self._facts

    def facts(self, model: str) -> dict[str, Any] | None:
        """Default sizes and factors of a model, once a worker has opened it; looked up until then, and kept."""
        if model not in self._facts and (found := model_facts(self.database, model)) is not None:
            self._facts[model] = found
        return self._facts.get(model)


async def services_of(request: Request) -> Services:
    """The services of the app that the request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesOf = Annotated[Services, Depends(services_of)]


def access_of_request(
    request: Request, services: Services, bearer: HTTPAuthorizationCredentials | None, cookie: str | None
) -> Access | None:
    """The rights of who asks, by the key in the header or else by a browser's session; None for nobody.

    Raises ApiError (403) when the cookie came with a request of another page.
    """
    return _on_own_page(request, services.keyring.look_up(None if bearer is None else bearer.credentials, cookie))


def _on_own_page(request: Request, found: Admitted | None) -> Access | None:
    """SameSite=Strict keeps the cookie from other sites; this keeps it from pages on other ports of the same host too."""
    if found is None or not found.by_session:
        return None if found is None else found.access
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = origin is not None and origin.partition("://")[2] == request.headers.get("host")
    if site not in ("same-origin", "none") or (request.method not in ("GET", "HEAD") and not own):
        raise ApiError(403, "requests of other pages are not taken", "origin_not_allowed")
    return found.access


def _needs(scope: str, without_database: bool = False) -> Callable[..., Awaitable[Access]]:
    """Lets in who has the scope; `without_database`: also who had it when last looked up, while the database is away."""

    async def access(
        request: Request,
        services: ServicesOf,
        bearer: Bearer,
        cookie: Cookie,
    ) -> Access:
        key, ring = None if bearer is None else bearer.credentials, services.keyring
        try:
            shown = ring.recall(key, cookie) or await run_in_threadpool(ring.look_up, key, cookie)
        except DBAPIError:
            shown = ring.recall_last(key, cookie) if without_database else None
            if shown is None:
                raise
        found = _on_own_page(request, shown)
        if found is None:
            raise no_valid_key()
        if not found.may(scope):
            raise ApiError(403, f"this key may not do that: it lacks the scope {scope}", "insufficient_scope")
        request.state.owner = found.owner
        return found

    return access


def no_valid_key() -> ApiError:
    """Of a request without a key that is known, and not revoked."""
    message = "a valid API key is needed: send the header Authorization: Bearer KEY, or sign in to the studio"
    return ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


async def is_still_let_in(services: Services, key: str | None, session: str | None) -> bool:
    """Whether who began to follow a stream may still read it: a key may have been revoked, a session may have ended."""
    ring = services.keyring
    return ring.recall(key, session) is not None or await run_in_threadpool(ring.look_up, key, session) is not None


MayRead = Annotated[Access, Depends(_needs(READ))]
MayWrite = Annotated[Access, Depends(_needs(WRITE))]
MayAdminister = Annotated[Access, Depends(_needs(ADMIN))]
MayWatch = Annotated[Access, Depends(_needs(ADMIN, without_database=True))]
