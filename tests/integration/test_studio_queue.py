"""The queue on the studio's page: what a set that waits again has, where the focus is after a move, and what is waited for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.browser import page_of

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def tell(page: Page, *events: tuple[str, Any]) -> None:
    """Answer the page's stream of events with these alone."""
    body = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n" + body)

    page.route("**/v1/studio/events", answer)


def test_a_set_that_waits_again_has_its_clips_and_says_why(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        page.request.post(f"{url}/v1/videos", data={"prompt": "A red ball bounces.", "model": "nano", "n": 3})
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        clips = [f"{job['id']}_{number}" for number in range(2)]
        tell(page, ("jobs", {"running": [], "waiting": [job | {"clip_ids": clips}], "ended": []}))
        page.goto(f"{url}/studio#/queue")
        row = page.get_by_role("article", name="Waiting: A red ball bounces.")
        row.get_by_text("2 of 3 clips finished:").wait_for()
        assert [link.get_attribute("href") for link in row.get_by_role("link").all()] == [
            f"#/clip/{one}" for one in clips
        ]
        row.get_by_text(
            "It was broken off when the server or its worker stopped, and goes on with the one clip"
        ).wait_for()
        change = row.get_by_role("button", name="Change: A red ball bounces.")
        assert change.get_attribute("aria-disabled") == "true"
        assert "Clips of it are finished already" in str(change.get_attribute("title"))
        change.focus()
        page.keyboard.press("Enter")
        assert page.get_by_role("dialog").count() == 0
        assert page.evaluate("location.hash") == "#/queue", "the form would make the finished ones again"


def test_focus_stays_on_the_button_that_moved_a_row_to_the_top(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        for name in ("One", "Two", "Three"):
            page.request.post(f"{url}/v1/videos", data={"prompt": f"{name}.", "model": "nano"})
        page.goto(f"{url}/studio#/queue")
        rows = page.get_by_role("list", name="Waiting clips").get_by_role("article")
        rows.nth(2).wait_for()
        page.get_by_role("button", name="Earlier: Three.").focus()
        for place, said in ((1, "“Three.” is number 2 of 3 now."), (0, "“Three.” is the next one now.")):
            page.keyboard.press("Enter")
            page.get_by_role("status").get_by_text(said).wait_for()
            assert rows.nth(place).get_attribute("aria-label") == "Waiting: Three."
            assert page.evaluate("document.activeElement.ariaLabel") == "Earlier: Three."
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.ariaLabel") == "Earlier: Three.", "and it stays there"
        assert page.get_by_role("button", name="Earlier: Three.").get_attribute("aria-disabled") == "true"
        page.get_by_role("button", name="Later: Three.").focus()
        page.keyboard.press("Enter")
        page.get_by_role("status").get_by_text("“Three.” is number 2 of 3 now.").wait_for()
        page.keyboard.press("Enter")
        page.get_by_role("status").get_by_text("“Three.” is the last one now.").wait_for()
        assert page.evaluate("document.activeElement.ariaLabel") == "Later: Three."
        assert page.get_by_role("button", name="Later: Three.").get_attribute("aria-disabled") == "true"
