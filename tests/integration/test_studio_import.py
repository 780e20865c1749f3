"""Films on their way into the studio's library: they go on while other parts of the page are shown, and can be stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.browser import page_of
from tests.studio_page import answer_without_planner

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

FILM = b"\0\0\0\x18ftypisom"
ANSWER: dict[str, Any] = {"data": [{}], "known": [], "refused": []}


def choose(page: Page, count: int) -> None:
    """Films to import, as a person chooses them."""
    given = [{"name": f"{number}.mp4", "mimeType": "video/mp4", "buffer": FILM} for number in range(count)]
    page.get_by_label("Films to import").set_input_files(given)


def answer_next(page: Page, held: list[Route], answer: dict[str, Any]) -> None:
    """Answer the film that is being sent, once it is."""
    for _ in range(1000):
        if held:
            break
        page.wait_for_timeout(20)
    held.pop(0).fulfill(json=answer)


def test_an_import_goes_on_elsewhere_on_the_page_and_says_what_was_there_already(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, _ = served
    held: list[Route] = []
    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/studio/imports", lambda route: held.append(route))
        page.goto(f"{url}/studio#/library")
        choose(page, 3)
        progress = page.get_by_role("group", name="Import")
        progress.get_by_text("1 of 3").wait_for()
        page.keyboard.press("1")
        page.get_by_role("heading", name="Make a clip").wait_for()
        answer_next(page, held, ANSWER)
        progress.get_by_text("2 of 3").wait_for()
        answer_next(page, held, ANSWER | {"data": [{"id": "a"}], "known": ["a"]})
        page.keyboard.press("3")
        progress.get_by_text("3 of 3").wait_for()
        answer_next(page, held, ANSWER)
        page.get_by_text("2 clips imported. 1 clip was in the library already.").wait_for()
        assert progress.count() == 0


def test_an_import_is_stopped_and_what_has_arrived_stays(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    held: list[Route] = []
    with page_of(browser) as page:
        page.route("**/v1/studio/imports", lambda route: held.append(route))
        page.goto(f"{url}/studio#/library")
        choose(page, 40)
        answer_next(page, held, ANSWER)
        page.get_by_role("group", name="Import").get_by_text("2 of 40").wait_for()
        with page.expect_event("requestfailed"):
            page.get_by_role("button", name="Stop the import").dblclick()
        assert page.url.endswith("#/library"), "the second press met nothing else"
        page.get_by_text("Stopped: 1 of 40 films imported.").wait_for()
        assert len(held) == 1, "the one that was on its way"


def test_an_import_outlives_a_restart_and_says_once_what_many_films_are_refused_for(
    browser: Browser, served: tuple[str, Services]
) -> None:
    """The films wait for the server; what is refused is in a list that opens when one wants it, and can be tried again."""
    url, _ = served
    sent: list[str] = []
    taken: list[bool] = []

    def answer(route: Route) -> None:
        body = route.request.post_data_buffer or b""
        name = body.partition(b'filename="')[2].partition(b'"')[0].decode()
        sent.append(name)
        if sent.count("1.mp4") == 1 and name == "1.mp4":
            route.abort("connectionrefused")
        elif name in ("0.mp4", "2.mp4") and not taken:
            route.fulfill(json={"data": [], "known": [], "refused": [{"name": name, "message": "the file is cut off"}]})
        else:
            route.fulfill(json=ANSWER)

    page = browser.new_page()  # the browser writes into its console that the server does not answer
    page.route("**/v1/studio/imports", answer)
    page.goto(f"{url}/studio#/library")
    choose(page, 4)
    page.get_by_text("2 clips imported.").wait_for()
    assert sent == ["0.mp4", "1.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert page.get_by_role("dialog").count() == 0
    page.get_by_role("button", name="Dismiss message").click()
    page.get_by_role("button", name="2 not imported").click()
    page.get_by_text("2 files: The file is cut off. Use another file. (0.mp4, 2.mp4)").wait_for()
    taken.append(True)
    page.get_by_role("button", name="Try these again").click()
    page.get_by_text("2 clips imported.").wait_for()
    page.get_by_role("button", name="2 not imported").wait_for(state="detached")
    assert sent[5:] == ["0.mp4", "2.mp4"]
    page.close()
