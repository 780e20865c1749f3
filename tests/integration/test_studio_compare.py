"""Comparing clips with the keyboard, and on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser import page_of
from tests.studio_page import answer_without_film, answer_without_planner, finished_clip, show_a_picture
from tests.unit.serving_helpers import PNG

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# A file beside every field, which is answered with a message.
DROP = """
    () => {
        const given = new DataTransfer();
        given.items.add(new File(["x"], "notes.txt"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
    }
"""


def test_clips_are_heard_and_stepped_by_keys_which_are_listed(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell", "drum")]
    with page_of(browser) as page:
        show_a_picture(page)
        page.goto(f"{url}/studio#/compare/{','.join(clips)}")
        hear = page.get_by_role("button", name="Hear")
        hear.nth(2).wait_for()
        for key, index in (("c", 2), ("B", 1), ("a", 0), ("d", 0)):
            page.keyboard.press(key)
            assert [one.get_attribute("aria-pressed") for one in hear.all()].index("true") == index
        for key, said in (("ArrowRight", "0.06 s"), (".", "0.10 s"), ("Shift+ArrowRight", "1.10 s"), (",", "1.06 s")):
            page.keyboard.press(key)
            page.get_by_text(said, exact=True).wait_for()
        page.get_by_role("button", name="One frame back").click()
        page.get_by_text("1.02 s", exact=True).wait_for()
        page.keyboard.press("?")
        page.get_by_text("Hear the first, second, third or fourth clip").wait_for()


def test_the_keyboard_stays_when_a_clip_is_taken_out(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell", "drum")]
    focused = "document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()"
    with page_of(browser) as page:
        show_a_picture(page)
        page.goto(f"{url}/studio#/compare/{','.join(clips)}")
        page.get_by_role("button", name="Take A bell").focus()
        for thing, then in (("bell", "Take A drum is played. out"), ("drum", "Take A mallet is played. out")):
            page.keyboard.press("Enter")
            page.get_by_role("button", name=f"Take A {thing}").wait_for(state="detached")
            assert page.evaluate(focused) == then
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Nothing to compare yet").wait_for()
        assert page.evaluate(focused) == "Add a clip"


def test_what_plays_all_is_in_sight_on_a_phone(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell", "drum", "horn")]
    with page_of(browser, width=390, height=640) as page:
        show_a_picture(page)
        page.goto(f"{url}/studio#/compare/{','.join(clips)}")
        play = page.get_by_role("button", name="Play all")
        play.wait_for()
        assert page.evaluate("innerHeight") == 640
        box = play.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 640 - 58, "above the bar at the bottom"
        assert play.evaluate("one => one.contains(document.elementFromPoint(one.getBoundingClientRect().x + 9,"
                             " one.getBoundingClientRect().y + 9))")  # fmt: skip


def test_without_a_pair_it_is_said_what_one_is_and_the_form_is_one_press_away(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, services = served
    for _ in range(2):
        finished_clip(services, "A bell is played.")
    with page_of(browser) as page:
        answer_without_planner(page)
        answer_without_film(page)
        page.goto(f"{url}/studio#/arena?by=settings")
        page.get_by_text(
            "were made with another setting, such as the steps. Another seed alone makes no pair."
        ).wait_for()
        page.get_by_role("button", name="Make another to compare").click()
        page.get_by_text("The form has the settings of this clip.").wait_for()
        assert page.get_by_label("What is seen and heard").input_value() == "A bell is played."


def test_after_the_last_pair_no_other_is_offered(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    state = {"by": "settings", "contestants": [], "pairs": 1, "voted": 0}
    pair = {
        "key": "k", "prompt": "A bell is played.", "left_url": "/left", "right_url": "/right", "voted": 0, "pairs": 1
    }  # fmt: skip
    with page_of(browser) as page:
        page.route("**/v1/studio/arena?by=settings", lambda route: route.fulfill(json=state))
        page.route("**/v1/studio/arena/pairs", lambda route: route.fulfill(json=pair))
        for side in ("left", "right"):
            page.route(f"**/{side}", lambda route: route.fulfill(content_type="image/png", body=PNG))
            reveal = {one: {"name": one, "clip": None} for one in ("left", "right")}
        page.route("**/v1/studio/arena/pairs/k/vote", lambda route: route.fulfill(json=reveal))
        page.goto(f"{url}/studio#/arena?by=settings")
        page.locator(".choice").first.click()
        state["voted"] = 1
        page.get_by_role("button", name="Vote").click()
        page.get_by_role("button", name="That was the last pair: to the standings").click()
        page.get_by_role("heading", name="The one pair is judged").wait_for()
        page.unroute_all(behavior="ignoreErrors")


def test_messages_lie_above_the_bar_that_plays(browser: Browser, served: tuple[str, Services]) -> None:
    """Equal ones are one, and what was said goes with the part that it was said in."""
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell", "drum", "horn")]
    for width in (390, 1280):
        with page_of(browser, width=width, height=640) as page:
            answer_without_planner(page)
            show_a_picture(page)
            page.goto(f"{url}/studio#/compare/{','.join(clips)}")
            page.get_by_role("button", name="Play all").wait_for()
            for _ in range(2):
                page.evaluate(DROP)
            page.get_by_text("×2", exact=True).wait_for()
            assert page.locator(".notice").count() == 1
            boxes = [
                one.bounding_box() for one in (page.locator(".notice"), page.get_by_role("button", name="Play all"))
            ]
            assert boxes[0] is not None
            assert boxes[1] is not None
            assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
            assert boxes[0]["y"] > 120, "nor do they cover the heading"
            page.goto(f"{url}/studio#/library")
            page.locator(".notice").wait_for(state="detached")
