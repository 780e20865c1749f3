"""What tests of the studio's page answer in a server's place, and clips that were never made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from phonofilm.serving.api.services import Services
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.claims import Claims
from tests.unit.serving_helpers import PNG, ask

if TYPE_CHECKING:
    from playwright.sync_api import Page

NO_WORDS: dict[str, Any] = {"embedded": True, "words": [], "groups": [], "scenes": [], "prompts": []}
NO_PLAN: dict[str, Any] = {
    "possible": True, "refused": [], "line": None, "clip": None, "seconds": None, "seconds_basis": None,
    "queue_seconds": None, "waiting_seconds": None, "memory": None, "warnings": [], "unknown_words": [], "suggestions": [],
}  # fmt: skip

SETTINGS: dict[str, Any] = {
    "task": "create", "url": "/v1/videos", "request": {"prompt": "A bell is played."}, "inputs": [], "missing": [],
    "recorded": {},
}  # fmt: skip


def answer_without_planner(page: Page) -> None:
    """What asks the planner's process, which loads a model's libraries, is answered here: it has tests of its own."""
    page.route("**/v1/studio/vocabulary*", lambda route: route.fulfill(json=NO_WORDS))
    page.route("**/v1/studio/plan", lambda route: route.fulfill(json=NO_PLAN))


WORKS: dict[str, Any] = {"state": "busy", "models": ["nano"], "memory": 0}


def show_a_worker(page: Page, url: str, *workers: dict[str, Any]) -> None:
    """A worker that makes something, or those that are given, where none lives."""
    info = page.request.get(f"{url}/v1/studio/info").json()
    page.route("**/v1/studio/info", lambda route: route.fulfill(json=info | {"workers": workers or [WORKS]}))


def show_a_picture(page: Page) -> None:
    """In the place of every clip and its thumbnail, for clips whose files are not there."""
    page.route("**/v1/videos/*/content*", lambda route: route.fulfill(content_type="image/png", body=PNG))


def answer_without_film(page: Page) -> None:
    """The same for a clip's page, which asks for frames, a timeline and settings besides."""
    show_a_picture(page)
    page.route("**/v1/studio/clips/*/frame*", lambda route: route.fulfill(content_type="image/png", body=PNG))
    timeline: dict[str, Any] = {"peaks": None, "spectrogram": None, "seen": [], "heard": []}
    page.route("**/timeline", lambda route: route.fulfill(json=timeline))
    page.route("**/v1/studio/clips/*/settings", lambda route: route.fulfill(json=SETTINGS))


def finished_clip(services: Services, prompt: str, *, status: str = "completed") -> str:
    """A clip of a few bytes, of a job that ended as `status`; its name."""
    job = ask(services.database, prompt, model="nano")
    held = Claims(services.database, "w").claim(["nano"], [], 60)
    assert held is not None
    made = {"seeds": [3], "seconds": 2.0, "size": "64x64", "fps": 24.0, "num_frames": 49, "steps": 1}
    outputs: list[dict[str, str]] = [{"video": f"outputs/{job.id}/1-0-video.mp4"}]
    assert Claims(services.database, "w").complete(held, outputs, made, 10, None)
    with services.database.write() as connection:
        connection.execute(update(JOB).where(JOB.c.id == job.id).values(status=status))
    return f"{job.id}_0"
