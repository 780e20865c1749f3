"""The studio's list of clips while it changes: each clip is in it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser import page_of
from tests.studio_page import finished_clip, show_a_picture

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def wait_for(page: Page, held: list[Route]) -> Route:
    """The next request that is held back, once it is there."""
    for _ in range(1000):
        if held:
            break
        page.wait_for_timeout(20)
    return held.pop(0)


def test_a_page_of_the_list_as_it_was_is_not_added_to_the_new_one(
    browser: Browser, served: tuple[str, Services]
) -> None:
    """The list is scrolled while it is read again, and what was asked for by its old end arrives last."""
    url, services = served
    clips = [finished_clip(services, f"Clip {number}.") for number in range(70)]
    again: list[Route] = []
    further: list[Route] = []

    def hold(route: Route) -> None:
        (further if "cursor=" in route.request.url else again).append(route)

    with page_of(browser, height=700) as page:
        show_a_picture(page)
        page.goto(f"{url}/studio#/library")
        page.get_by_text("Clip 69.").first.wait_for()
        page.route("**/v1/studio/clips?*", hold)
        page.request.post(f"{url}/v1/studio/clips/trash", data={"ids": clips[-1:]})
        first = wait_for(page, again)
        page.locator("[data-index] .open").first.focus()
        page.keyboard.press("End")
        late = wait_for(page, further)
        first.continue_()
        page.get_by_text("69 clips").first.wait_for()
        late.continue_()
        page.unroute("**/v1/studio/clips?*")
        for route in again + further:
            route.continue_()
        page.get_by_text("Clip 0.").first.wait_for()
