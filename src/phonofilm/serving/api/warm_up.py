"""The first request of a server, made by itself: what FastAPI builds then would hold up all clients that come together."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Scope

from phonofilm.serving.api.guard import Guard


def warm_up(guard: Guard) -> None:
    """Ask for a video that is not there, past what logs and counts. Not for a running event loop."""
    asyncio.run(_ask(guard))


async def _ask(guard: Guard) -> None:
    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/v1/videos/none", "raw_path": b"/v1/videos/none", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost")], "client": None, "server": None,
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        """Nobody waits for the answer."""

    await guard.app(scope, receive, send)
