"""The thumbnails of a library that is scrolled fast: those in sight come first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser import page_of
from tests.studio_page import finished_clip

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request, Route


def test_pictures_of_clips_that_were_scrolled_past_are_not_waited_for(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, services = served
    for number in range(60):
        finished_clip(services, f"Bell {number} rings.")
    held: list[Route] = []
    given_up: set[str] = set()

    def note(request: Request) -> None:
        if "thumbnail" in request.url:
            given_up.add(request.url)

    with page_of(browser) as page:
        page.route("**/v1/videos/*/content*", lambda route: held.append(route))
        page.on("requestfailed", note)
        page.goto(f"{url}/studio#/library")
        page.get_by_role("link", name="Bell 59 rings.").first.wait_for()
        first = page.locator(".viewport li img").first.get_attribute("src")
        for _ in range(100):
            if any(first in route.request.url for route in held):
                break
            page.wait_for_timeout(20)
        page.locator(".viewport").evaluate("grid => grid.scrollTo(0, 99999)")
        page.get_by_role("link", name="Bell 0 rings.").first.wait_for()
        for _ in range(1000):
            if given_up:
                break
            page.wait_for_timeout(20)
        shown = {str(image.get_attribute("src")) for image in page.locator(".viewport li img").all()}
        assert any(first in one for one in given_up)
        assert not any(one in gone for one in shown for gone in given_up)
