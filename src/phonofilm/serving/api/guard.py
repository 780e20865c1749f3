"""What stands before every route: request ids, limits of size and time, hosts and origins, security headers, one log line.

On a server without keys the names in Host and Origin are checked, so that no page in a browser can use it: neither by a
cross-site request nor by a name that suddenly leads to this machine (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phonofilm.serving.api.absolute_form import in_origin_form
from phonofilm.serving.api.errors import MAX_VALUES, ApiError, error_response, too_many_values
from phonofilm.serving.api.services import Services
from phonofilm.untrusted import shown

logger = logging.getLogger("phonofilm.serving.requests")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Asked every second or so by whoever watches; such requests are counted, and logged when they fail.
QUIET = ("/liveness", "/metrics", "/v1/videos/{video_id}")
# Fails for as long as no worker is ready; logged when it begins to, and when it is over.
HEALTH = "/health"
SLOWEST_BYTES_PER_SECOND = 8192
# Kinds of body in which a comma separates no values; every other is read as JSON, here or by FastAPI.
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


@dataclass
class Guard:
    """The outermost layer of the app. `answers` counts by route and status for /metrics."""

    app: ASGIApp
    services: Services
    answers: Counter[tuple[str, int]]
    _last_health: int = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = in_origin_form(scope)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        started, status = time.perf_counter(), 500
        method = scope["method"]
        if method == "HEAD":  # answered as GET is, without the body
            scope, send = {**scope, "method": "GET"}, _without_body(send)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = message.setdefault("headers", [])
                names = {name for name, _ in there}
                added = [one for one in SECURITY_HEADERS if one[0] not in names]
                message["headers"] = [*there, *added, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            refused = await self._refused(scope, headers)
            if refused is not None:
                await error_response(refused.status, refused.message, refused.code, headers=refused.headers)(
                    scope, receive, answer
                )
            else:
                kind = headers.get("content-type", "").partition(";")[0].strip().lower()
                body = _Body(receive, self.services, is_form=kind in FORMS)
                await self.app(scope, body.receive, answer)
        finally:
            self._log({**scope, "method": method}, request_id, status, time.perf_counter() - started)

    async def _refused(self, scope: Scope, headers: Headers) -> ApiError | None:
        limit = self.services.worker.limits.max_upload_bytes
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            return ApiError(413, f"the body is larger than {limit:,} bytes", "body_too_large")
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy may see another end of this request than we do, and take what follows it for its body, or not.
            message = "Content-Length and Transfer-Encoding exclude each other; send one of them"
            return ApiError(400, message, "invalid_http", headers={"connection": "close"})
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"the body is compressed ({shown(encoding)}), which is not read; send it as it is, without Content-Encoding"
            return ApiError(415, message, "unsupported_media")
        origin, host = headers.get("origin"), headers.get("host", "")
        foreign = origin is not None and origin.partition("://")[2] != host
        if foreign and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            return ApiError(403, "requests of other pages are not taken", "origin_not_allowed")
        if _host_name(host) in self.services.api.hosts:
            return None
        try:
            keyring = self.services.keyring
            if keyring.knows_of_keys or await asyncio.to_thread(keyring.has_keys):
                return None
        except DBAPIError:
            return ApiError(503, "the job database cannot be reached at the moment; try again", "database_unavailable")
        return ApiError(403, "this server does not answer to that name; start it with --host, or use a key", "bad_host")

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """The route's pattern and never the address itself: ids, queries and bodies are the clients' own."""
        route = getattr(scope.get("route"), "path", "unknown")
        self.answers[(route, status)] += 1
        level = self._level(route, scope["method"], status)
        if not logger.isEnabledFor(level):
            return
        owner = scope.get("state", {}).get("owner", "-")
        fields = {
            "request_id": request_id,
            "method": scope["method"] if scope["method"].isalpha() else "?",
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
            "key": owner,
        }
        line = " ".join(f"{name}={value}" for name, value in fields.items())
        logger.log(level, line, extra=fields)

    def _level(self, route: str, method: str, status: int) -> int:
        if route == HEALTH and status in (200, 503):
            changed, self._last_health = status != self._last_health, status
            return logging.DEBUG if not changed else logging.INFO if status < 400 else logging.WARNING
        return logging.DEBUG if route in QUIET and method in ("GET", "HEAD") and status < 400 else logging.INFO


@dataclass
class _Body:
    """A request's body, given up when it becomes too large, has too many values or does not arrive.

    The values of JSON are bounded by its commas, before it is read: within the limit of bytes there could be ten million, and
    reading those keeps every other answer waiting for seconds.

    Time counts from the first look at it, which for requests without a body comes with the answer, however late that is.
    """

    wrapped: Receive
    services: Services
    is_form: bool
    taken: int = 0
    commas: int = 0
    whole: bool = False
    began: float | None = None

    async def receive(self) -> Message:
        message = await self._next()
        if self.commas > MAX_VALUES:
            # A client that still writes when the connection is closed never reads why.
            while not self.whole and message["type"] == "http.request":
                message = await self._next()
            raise too_many_values()
        return message

    async def _next(self) -> Message:
        if self.whole:  # nothing but the end of the connection is waited for
            return await self.wrapped()
        try:
            message = await asyncio.wait_for(self.wrapped(), self._patience())
        except TimeoutError:
            raise ApiError(408, "the body does not arrive", "body_too_slow") from None
        if message["type"] == "http.request":
            self.taken += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            limit = self.services.worker.limits.max_upload_bytes
            if self.taken > limit:
                raise ApiError(413, f"the body is larger than {limit:,} bytes", "body_too_large")
            self.commas += 0 if self.is_form else message.get("body", b"").count(b",")
        return message

    def _patience(self) -> float:
        """Seconds for the next piece: a body that drips in, byte by byte, may not take for ever either."""
        each = self.services.api.body_seconds
        allowed = each + self.taken / SLOWEST_BYTES_PER_SECOND
        now = time.monotonic()
        self.began = now if self.began is None else self.began
        return max(0.0, min(each, self.began + allowed - now))


def _without_body(send: Send) -> Send:
    """Sends an answer's head and the end of it; what follows is dropped, and streams stop as when their client is gone."""
    ended = False

    async def send_head(message: Message) -> None:
        nonlocal ended
        if ended:
            return
        await send(message)
        if message["type"] == "http.response.start":
            ended = True
            await send({"type": "http.response.body", "body": b""})

    return send_head


def _host_name(host: str) -> str:
    """The Host header without its port."""
    return re.sub(r":\d+$", "", host).lower()
