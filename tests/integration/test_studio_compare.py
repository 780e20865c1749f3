"""Comparing clips with the keyboard, and on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser import page_of
from tests.studio_page import finished_clip, show_a_picture

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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
