"""A clip's page: what people write about a clip is kept, however fast they are and slow the network is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.browser import page_of
from tests.studio_page import answer_without_film, answer_without_planner, finished_clip

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def open_clip(page: Page, url: str, clip: str) -> None:
    """The clip's page, with no film behind it."""
    answer_without_planner(page)
    answer_without_film(page)
    page.goto(f"{url}/studio#/clip/{clip}")
    page.get_by_role("textbox", name="Title").wait_for()


def tags_of(page: Page, url: str, clip: str) -> Any:
    """As the server has them."""
    return page.request.get(f"{url}/v1/studio/clips/{clip}").json()["tags"]


def test_tags_that_are_added_and_removed_fast_are_all_kept(browser: Browser, served: tuple[str, Services]) -> None:
    """Each is sent when the one before was answered, and none takes another back."""
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method in ("PATCH", "POST"):
            held.append(route)
        else:
            route.continue_()

    with page_of(browser) as page:
        page.request.patch(f"{url}/v1/studio/clips/{clip}", data={"tags": ["day", "night"]})
        page.route(f"**/v1/studio/clips/{clip}", hold)
        page.route("**/v1/studio/clips/change", hold)
        open_clip(page, url, clip)
        field = page.get_by_role("textbox", name="Add a tag")
        for name in ("one", "two", "three"):
            field.fill(name)
            field.press("Enter")
        page.get_by_role("button", name="Remove the tag day").click()
        page.get_by_role("button", name="Remove the tag night").click()
        for _ in range(5):
            for _ in range(1000):
                if held:
                    break
                page.wait_for_timeout(20)
            held.pop(0).continue_()
        page.get_by_text("#three").wait_for()
        page.get_by_text("#night").wait_for(state="detached")
        assert tags_of(page, url, clip) == ["one", "three", "two"]
        for name in ("one", "two", "three"):
            page.get_by_text(f"#{name}").wait_for()
