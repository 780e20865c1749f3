"""A clip's page: what people write about a clip is kept, however fast they are and slow the network is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.browser import page_of
from tests.studio_page import answer_without_film, answer_without_planner, finished_clip

from phonofilm.serving.api.services import Services

expect = pytest.importorskip("playwright.sync_api").expect

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


@pytest.mark.parametrize("width", [320, 1280])
def test_a_long_tag_makes_nothing_wider(browser: Browser, served: tuple[str, Services], width: int) -> None:
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    with page_of(browser, width=width) as page:
        page.request.patch(f"{url}/v1/studio/clips/{clip}", data={"tags": ["w" * 50]})
        open_clip(page, url, clip)
        page.get_by_text("#" + "w" * 50).wait_for()
        assert page.locator("#main").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_a_title_that_is_being_written_stays_and_one_that_was_not_saved_can_be_sent_again(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    with page_of(browser) as page:
        open_clip(page, url, clip)
        title = page.get_by_role("textbox", name="Title")
        folder = page.get_by_role("textbox", name="Folder")
        title.press_sequentially("My ti")
        page.request.patch(f"{url}/v1/studio/clips/{clip}", data={"title": "Theirs", "folder": "Elsewhere"})
        expect(folder).to_have_value("Elsewhere")
        expect(title).to_have_value("My ti")
        page.route(
            f"**/v1/studio/clips/{clip}",
            lambda route: route.fulfill(body="<html>") if route.request.method == "PATCH" else route.continue_(),
        )
        title.press_sequentially("tle")
        title.press("Enter")
        page.get_by_text("The title was not saved. Something else than Phonofilm answered").wait_for()
        expect(title).to_have_value("Theirs")
        page.unroute(f"**/v1/studio/clips/{clip}")
        page.get_by_role("button", name="Save again").click()
        expect(title).to_have_value("My title")
        assert page.request.get(f"{url}/v1/studio/clips/{clip}").json()["title"] == "My title"


def test_what_does_not_fit_is_said_and_not_cut(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    with page_of(browser) as page:
        open_clip(page, url, clip)
        page.get_by_role("textbox", name="Title").fill("t" * 200)
        page.get_by_text("At most 200 letters.").wait_for()
        field = page.get_by_role("textbox", name="Add a tag")
        field.fill("short, " + "w" * 51)
        field.press("Enter")
        page.get_by_text("A tag has at most 50 letters.").wait_for()
        expect(field).to_have_value("short, " + "w" * 51)
        field.fill("short, " + "w" * 50)
        field.press("Enter")
        page.get_by_text("#" + "w" * 50).wait_for()
        assert tags_of(page, url, clip) == ["short", "w" * 50]
