"""Where the studio's page says something: beside what can be pressed, in a sentence, and to those who listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.browser import page_of
from tests.studio_page import answer_without_film, answer_without_planner, finished_clip
from tests.unit.serving_helpers import PNG

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

# Where everything that can be pressed is.
PLACES = """
    () => [...document.querySelectorAll("main button, main a, main label, main input, main select")].map((one) => {
        const { left, top } = one.getBoundingClientRect();
        return [left, top];
    })
"""


def is_in_sight(what: Locator) -> bool:
    """Whether all of it is there to be pressed."""
    return bool(
        what.evaluate(
            "one => { const { left, right, bottom } = one.getBoundingClientRect();"
            " return one.contains(document.elementFromPoint((left + right) / 2, bottom - 2)); }"
        )
    )


def drop_a_file(page: Page, name: str) -> None:
    """Beside every field, which is answered with a message."""
    page.evaluate(
        """(name) => {
            const given = new DataTransfer();
            given.items.add(new File(["x"], name));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
        }""",
        name,
    )


def dismiss_all(page: Page) -> None:
    """Press away every message."""
    while page.locator(".notice").count() > 0:
        page.get_by_role("button", name="Dismiss message").first.click()


@pytest.mark.parametrize("height", [620, 800])
def test_a_message_moves_nothing_and_the_end_stays_in_sight(
    browser: Browser, served: tuple[str, Services], height: int
) -> None:
    """The last buttons of a clip's page, those of the queue, and a vote are not covered for who has scrolled there."""
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    pair = {
        "key": "k",
        "prompt": "A bell is played.",
        "left_url": "/left",
        "right_url": "/right",
        "voted": 0,
        "pairs": 1,
    }
    state = {"by": "settings", "contestants": [], "pairs": 1, "voted": 0}
    with page_of(browser, height=height) as page:
        page.route("**/v1/studio/arena?by=settings", lambda route: route.fulfill(json=state))
        page.route("**/v1/studio/arena/pairs", lambda route: route.fulfill(json=pair))
        for side in ("left", "right"):
            page.route(f"**/{side}", lambda route: route.fulfill(content_type="image/png", body=PNG))
        for count in range(9):
            page.request.post(f"{url}/v1/videos", data={"prompt": f"Ball {count}.", "model": "nano"})
        answer_without_planner(page)
        answer_without_film(page)
        parts: list[tuple[str, Any]] = [
            (f"#/clip/{clip}", page.get_by_role("button", name="Delete", exact=True)),
            ("#/queue", page.get_by_role("button", name="Cancel: Ball 8.")),
            ("#/arena?by=settings", page.get_by_role("button", name="Vote")),
        ]
        for part, last in parts:
            page.goto(f"{url}/studio{part}")
            last.wait_for()
            page.locator("main").evaluate("main => main.scrollTo(0, 99999)")
            drop_a_file(page, "notes.txt")
            page.get_by_role("status").get_by_text("Drop a picture, film or sound on its field").wait_for()
            page.wait_for_timeout(100)
            assert is_in_sight(last), f"{part}: what was at the end in sight stays there"
            dismiss_all(page)
            page.locator("main").evaluate("main => main.scrollTo(0, 0)")
            before = page.evaluate(PLACES)
            drop_a_file(page, "notes.txt")
            page.locator(".notice").wait_for()
            page.wait_for_timeout(100)
            assert page.evaluate(PLACES) == before, f"{part}: nobody presses what was elsewhere a moment ago"
            dismiss_all(page)
        page.unroute_all(behavior="ignoreErrors")


def test_what_has_the_focus_stays_in_sight_when_a_message_comes(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser, height=600) as page:
        for count in range(12):
            page.request.post(f"{url}/v1/videos", data={"prompt": f"Ball {count}.", "model": "nano"})
        page.goto(f"{url}/studio#/queue")
        page.get_by_role("button", name="Cancel: Ball 11.").wait_for()
        buttons = page.locator("main button[aria-label^='Cancel']").all()
        inner = page.evaluate("innerHeight")
        lowest = [one for one in buttons if (box := one.bounding_box()) and box["y"] + box["height"] < inner][-1]
        lowest.focus()
        drop_a_file(page, "notes.txt")
        page.get_by_role("status").get_by_text("Drop a picture, film or sound on its field").wait_for()
        page.wait_for_timeout(100)
        assert is_in_sight(lowest)


def test_a_moment_outside_the_clip_is_said_and_takes_no_selection_away(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    with page_of(browser) as page:
        answer_without_planner(page)
        answer_without_film(page)
        page.goto(f"{url}/studio#/clip/{clip}")
        start, end = page.get_by_label("From second"), page.get_by_label("To second")
        start.fill("0.5")
        start.blur()
        end.fill("1")
        end.blur()
        for field, wrong in ((start, "9"), (start, "-1"), (end, "7.5"), (end, "0")):
            before = (start.input_value(), end.input_value())
            assert before == ("0.5", "1")
            field.fill(wrong)
            field.press("Enter")
            said = page.get_by_text(
                f"{wrong} s is not within the clip, which is 2.04 s long. The part stays as it was."
            )
            said.wait_for()
            assert (start.input_value(), end.input_value()) == before
            assert page.get_by_role("button", name="Make this part again").is_enabled()
        start.fill("0.25")
        start.press("Enter")
        said.wait_for(state="detached")
        page.get_by_role("button", name="Select nothing").click()
        end.fill("2.05")
        end.blur()
        assert end.input_value() == "2.042", "less than a frame beyond the end is the end"


def test_the_library_is_found_as_it_was_left(browser: Browser, served: tuple[str, Services]) -> None:
    """Scrolled, and with the keyboard at the clip that was opened."""
    url, services = served
    for number in range(60):
        finished_clip(services, f"Bell {number} rings.")
    with page_of(browser) as page:
        answer_without_planner(page)
        answer_without_film(page)
        page.goto(f"{url}/studio#/library")
        page.get_by_role("link", name="Bell 59 rings.").first.wait_for()
        grid = page.locator(".viewport")
        grid.evaluate("grid => grid.scrollTo(0, 1500)")
        page.wait_for_function("() => document.querySelector('.viewport li').dataset.index > 0")
        whole = grid.evaluate(
            """grid => [...grid.querySelectorAll('li .open')].findIndex(
                (one) => one.getBoundingClientRect().top > grid.getBoundingClientRect().top)"""
        )
        opened = page.locator(".viewport li .open").nth(whole)  # a row that is cut is scrolled to be seen whole
        place = grid.evaluate("grid => grid.scrollTop")
        assert place > 1000
        opened.click()
        page.get_by_role("link", name="Library").first.wait_for()
        page.go_back()
        grid.wait_for()
        page.wait_for_function(f"() => document.querySelector('.viewport')?.scrollTop === {place}")
        page.get_by_label("Search").fill("Bell 3")
        page.wait_for_function("() => document.querySelector('.viewport').scrollTop === 0")
