"""What the studio's page says of answers that are none, and of errors: a sentence with a way on, and no word of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.browser import page_of
from tests.studio_page import answer_without_planner

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

ANOTHER = (
    "Something else than Phonofilm answered, such as the sign-in page of a network or a proxy. Sign in to the network,"
)
CUT = "the file is cut off: its picture should end at 2.00 s but ends at 1.00 s"


@pytest.mark.parametrize("body", ["<!doctype html><title>Sign in</title>", "", "{}", "null"])
def test_an_answer_of_something_else_is_called_that(browser: Browser, served: tuple[str, Services], body: str) -> None:
    url, _ = served
    with page_of(browser) as page:
        page.route("**/v1/studio/info", lambda route: route.fulfill(content_type="text/html", body=body))
        page.goto(f"{url}/studio")
        page.get_by_role("heading", name="The page cannot begin yet").wait_for()
        page.get_by_text(ANOTHER).wait_for()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 500, "json": {"error": {"message": None}}}, "The server answered 500. Try again."),
        ({"status": 413, "body": "too large"}, "takes less at once."),
        ({"status": 429, "body": "slowly"}, "The server answered 429. Wait for a moment, and try again."),
        (
            {"status": 400, "json": {"error": {"message": "tag is odd", "code": "invalid_value"}}},
            "Change that, and try again.",
        ),
    ],
)
def test_an_error_is_a_sentence_with_a_way_on(
    browser: Browser, served: tuple[str, Services], answer: dict[str, Any], said: str
) -> None:
    """Also one that says nothing, and one of what stands in between. The browser writes each into its console."""
    url, _ = served
    page = browser.new_page()
    page.route("**/v1/studio/info", lambda route: route.fulfill(**answer))
    page.goto(f"{url}/studio")
    page.get_by_role("heading", name="The page cannot begin yet").wait_for()
    page.get_by_text(said).wait_for()
    page.close()


def test_a_clip_that_is_not_there_is_not_called_by_its_id(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    page = browser.new_page()
    page.goto(f"{url}/studio#/compare/nope")
    page.get_by_text("There is no such clip. It may have been deleted in another tab.").wait_for()
    assert "nope" not in page.locator("body").inner_text()
    page.close()


def test_a_film_that_is_cut_off_is_refused_with_a_way_on(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served

    def refuse(route: Route) -> None:
        route.fulfill(json={"data": [], "known": [], "refused": [{"name": "cut.mp4", "message": CUT}]})

    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/studio/imports", refuse)
        page.goto(f"{url}/studio#/library")
        film = {"name": "cut.mp4", "mimeType": "video/mp4", "buffer": b"\0\0\0\x18ftypisom"}
        page.get_by_label("Films to import").set_input_files([film])
        page.get_by_text("ends at 1.00 s. Use another file.").wait_for()
