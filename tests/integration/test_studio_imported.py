"""Films that were made elsewhere on the studio's page: without words, without sound, and of a model that nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.browser import page_of
from tests.studio_page import answer_without_film, answer_without_planner, finished_clip

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def with_facts(page: Page, url: str, clip: str, **facts: Any) -> None:
    """Answer for the clip with other facts than it has."""
    answer = page.request.get(f"{url}/v1/studio/clips/{clip}").json() | facts
    page.route(f"**/v1/studio/clips/{clip}", lambda route: route.fulfill(json=answer))


def test_what_a_film_of_elsewhere_lacks_is_said(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clip = finished_clip(services, "")
    with page_of(browser) as page:
        answer_without_planner(page)
        answer_without_film(page)
        facts = {"imported": True, "model": "unknown", "title": "harbour", "has_sound": False, "prompt": ""}
        with_facts(page, url, clip, **facts)
        page.goto(f"{url}/studio#/clip/{clip}")
        page.get_by_text("New sound", exact=True).click()
        page.get_by_text("Say what is seen and heard.", exact=True).wait_for()
        button = page.get_by_role("button", name="Make sound for this picture")
        assert button.is_disabled()
        page.get_by_role("textbox", name="What is seen and heard").fill("Waves.")
        page.get_by_text("Say what is seen and heard.", exact=True).wait_for(state="detached")
        assert button.is_enabled()
        page.get_by_text("New picture", exact=True).click()
        page.get_by_text("This clip has no sound that a picture could be made for.").wait_for()
        page.get_by_text("There are no variations of this clip: its file does not say how it was made.").wait_for()
        page.get_by_role("region", name="How it was made").get_by_text("its file does not say, imported").wait_for()
        assert page.get_by_text("unknown").count() == 0


def test_a_clip_without_sound_is_not_offered_to_be_heard(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell")]
    with page_of(browser) as page:
        answer_without_film(page)
        with_facts(page, url, clips[0], has_sound=False, model="unknown")
        page.goto(f"{url}/studio#/compare/{','.join(clips)}")
        page.get_by_text("No sound", exact=True).wait_for()
        assert page.get_by_role("button", name="Hear").count() == 1
        page.get_by_text("made elsewhere").wait_for()
