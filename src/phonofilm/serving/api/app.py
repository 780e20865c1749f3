"""The FastAPI app: routes, errors and the guard put together around one set of services."""

from __future__ import annotations

from collections import Counter

from fastapi import FastAPI

from phonofilm import __version__
from phonofilm.serving.api import creating, models_and_loras, operations, videos
from phonofilm.serving.api.errors import add_error_handlers
from phonofilm.serving.api.guard import Guard
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

ABOUT = """Clips with picture and sound, in the dialect of OpenAI's videos API and SGLang's.

A request becomes a job, which is never lost: `POST /v1/videos`, then `GET /v1/videos/{id}` or its `/events`, then `/content`.
"""


def create_app(services: Services) -> Guard:
    """The app that a server runs."""
    api = create_api(services)
    return Guard(StatusPolls(api, services), services, api.state.answers)


def create_api(services: Services) -> FastAPI:
    """Its routes alone, without what stands before them."""
    app = FastAPI(
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
    return app
