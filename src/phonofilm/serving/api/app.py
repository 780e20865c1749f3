"""The FastAPI app: routes, errors and the guard put together around one set of services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from phonofilm import __version__
from phonofilm.serving.api import creating, models_and_loras, operations, videos
from phonofilm.serving.api.errors import add_error_handlers
from phonofilm.serving.api.examples import EXAMPLES
from phonofilm.serving.api.guard import Guard
from phonofilm.serving.api.openapi import add_examples
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.status_polls import StatusPolls
from phonofilm.serving.studio import (
    arena,
    clips,
    events,
    files,
    imports,
    info,
    page,
    plan,
    queue,
    runs,
    sign_in,
    timeline,
    uploads,
    writing,
)
from phonofilm.serving.studio.examples import STUDIO_EXAMPLES

ABOUT = """Clips with picture and sound, in the dialect of OpenAI's videos API and SGLang's.

A request becomes a job, which is never lost: `POST /v1/videos`, then `GET /v1/videos/{id}` or its `/events`, then `/content`.
"""


class _Described(FastAPI):
    """Routes whose description has an example of each."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            add_examples(super().openapi(), {**EXAMPLES, **STUDIO_EXAMPLES})
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_app(services: Services) -> Guard:
    """The app that a server runs."""
    api = create_api(services)
    return Guard(StatusPolls(api, services), services, api.state.answers)


def create_api(services: Services) -> FastAPI:
    """Its routes alone, without what stands before them."""
    app = _Described(
        title="Phonofilm", version=__version__, description=ABOUT, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.services = services
    app.state.answers = Counter[tuple[str, int]]()
    add_error_handlers(app)
    routers = (creating.router, videos.router, models_and_loras.router, operations.router, sign_in.router, page.router)
    studio = (
        *(info.router, plan.router, clips.router, files.router, timeline.router, queue.router, events.router),
        *(imports.router, arena.router, runs.router, uploads.router, writing.router),
    )
    for router in (*routers, *studio):
        app.include_router(router)
    app.state.methods = methods_by_path([*routers, *studio])
    return app


def methods_by_path(routers: Iterable[APIRouter]) -> dict[str, set[str]]:
    """What each documented path takes, for `Allow`: FastAPI keeps a route for each method. HEAD is answered as GET is."""
    found: dict[str, set[str]] = {}
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and route.include_in_schema and route.methods is not None:
            also = ["HEAD"] if "GET" in route.methods else []
            found.setdefault(route.path, set()).update([*route.methods, *also])
    return found
