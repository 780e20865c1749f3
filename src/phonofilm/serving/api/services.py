"""What the routes work with: the database, the store, the settings; and who is asking."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.translate import RequestChecks
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.book import Room
from phonofilm.serving.jobs.roster import model_facts
from phonofilm.serving.security.access import ADMIN, READ, WRITE, Access
from phonofilm.serving.security.browser_sessions import COOKIE, access_of_session
from phonofilm.serving.security.keys import access_of
from phonofilm.serving.settings import RequestLimits, WorkerSettings
from phonofilm.serving.side_process import Runner, SideProcess
from phonofilm.serving.store.interface import Store

BEARER = HTTPBearer(auto_error=False, description="A key of `phonofilm serve keys create`.")
# Its first answer comes after PyTorch is imported, which takes minutes on a machine with much else to do.
PLANNER_SECONDS = 300.0
SESSION = APIKeyCookie(name=COOKIE, auto_error=False, description="The studio's session, of POST /studio/session.")


@dataclass(frozen=True)
class ApiSettings:
    """What the server allows. hosts: the names it answers to while it has no keys.

    imports: folders whose clips administrators may bring into the library; runs: folders with training runs to follow.
    """

    limits: RequestLimits = field(default_factory=RequestLimits)
    room: Room = field(default_factory=Room)
    allow_callbacks: bool = False
    sync_timeout: float = 3600.0
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]", "testserver")
    body_seconds: float = 30.0
    imports: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()


@dataclass
class Services:
    """Everything the routes need; one for each server. media decodes files; planner imports PyTorch and plans clips."""

    database: Database
    store: Store
    worker: WorkerSettings
    api: ApiSettings = field(default_factory=ApiSettings)
    closing: threading.Event = field(default_factory=threading.Event)
    media: Runner = field(default_factory=lambda: SideProcess("media"))
    planner: Runner = field(default_factory=lambda: SideProcess("planner", PLANNER_SECONDS))
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def checks(self, model: str) -> RequestChecks:
        """What a request for this model is checked against."""
        sglang = None if self.worker.engine is None else model
        return RequestChecks(self.api.limits, self.worker.loras, self.facts(model), sglang)

    def close(self) -> None:
        """End the processes beside the server."""
        self.media.close()
        self.planner.close()

    def facts(self, model: str) -> dict[str, Any] | None:
        """Default sizes and factors of a model, once a worker has opened it; looked up until then, and kept."""
        if model not in self._facts and (found := model_facts(self.database, model)) is not None:
            self._facts[model] = found
        return self._facts.get(model)


def services_of(request: Request) -> Services:
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
    if bearer is None and cookie is not None and (found := access_of_session(services.database, cookie)) is not None:
        _check_own_page(request)
        return found
    return access_of(services.database, None if bearer is None else bearer.credentials)


def _check_own_page(request: Request) -> None:
    """SameSite=Strict keeps the cookie from other sites; this keeps it from pages on other ports of the same host too."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if site not in ("same-origin", "none") or (request.method not in ("GET", "HEAD") and not own):
        raise ApiError(403, "requests of other pages are not taken", "origin_not_allowed")


def _needs(scope: str) -> Callable[..., Access]:
    def access(
        request: Request,
        services: ServicesOf,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
        cookie: Annotated[str | None, Depends(SESSION)],
    ) -> Access:
        found = access_of_request(request, services, bearer, cookie)
        if found is None:
            message = "a valid API key is needed: send the header Authorization: Bearer KEY, or sign in to the studio"
            raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if not found.may(scope):
            raise ApiError(403, f"this key may not do that: it lacks the scope {scope}", "insufficient_scope")
        request.state.owner = found.owner
        return found

    return access


MayRead = Annotated[Access, Depends(_needs(READ))]
MayWrite = Annotated[Access, Depends(_needs(WRITE))]
MayAdminister = Annotated[Access, Depends(_needs(ADMIN))]
