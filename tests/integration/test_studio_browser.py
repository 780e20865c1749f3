"""The studio as a person uses it, in a browser, with the embedded model making the clips. Minutes on two cores: run by hand."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser import chromium, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
START_SECONDS = 120
CLIP_MILLISECONDS = 300_000


@dataclass
class Studio:
    """A server of its own with one worker, which can be stopped and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/studio"

    def start(self) -> None:
        command = [sys.executable, "-m", "phonofilm", "studio", "--no-open", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            except (OSError, urllib.error.URLError):
                assert self.process.poll() is None, "the server ended"
                time.sleep(0.5)
        raise AssertionError("the server does not get ready")

    def stop(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = Studio(tmp_path_factory.mktemp("studio"), free.getsockname()[1])
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def make(page: Page, prompt: str, steps: int = 4, seconds: float | None = None) -> None:
    """Ask for a clip with the form."""
    page.get_by_role("textbox", name="What is seen and heard").fill(prompt)
    if not page.get_by_label("Steps").is_visible():
        page.get_by_text("More settings").click()
    page.get_by_label("Steps").fill(str(steps))
    if seconds is not None:
        page.get_by_label("Seconds").fill(str(seconds))
    page.get_by_role("button", name="Make clip").click()


def newest(page: Page) -> Any:
    return page.get_by_role("region", name="Newest clips").get_by_role("link", name=re.compile("A "))


def violations(page: Page) -> list[str]:
    """What axe finds that is serious."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['target']}" for one in found if one["impact"] in ("serious", "critical")]


def test_a_face_says_ah_and_then_oo_from_second_1_on(studio: Studio, browser: Browser) -> None:
    """By what the page shows alone: a suggestion, one button, a selection, one more button."""
    with page_of(browser) as page:
        page.goto(studio.url)
        page.get_by_role("group", name="Prompts to start from").get_by_text(re.compile("face")).first.click()
        asked = page.get_by_role("textbox", name="What is seen and heard")
        make(page, re.sub(r'says "\w+"', 'says "ah"', asked.input_value()))
        page.get_by_role("progressbar", name="Progress").wait_for()
        newest(page).first.wait_for(timeout=CLIP_MILLISECONDS)
        newest(page).first.click()
        page.get_by_text("frame 1 of 49").wait_for()
        page.locator(".wave canvas").wait_for()
        box = page.locator(".wave").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.49, box["y"] + 30)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 30, steps=4)
        page.mouse.up()
        assert float(page.get_by_label("From second").input_value()) == pytest.approx(1, abs=0.05)
        prompt = page.get_by_role("textbox", name="What is seen and heard")
        prompt.fill(prompt.input_value().replace('"ah"', '"oo"'))
        page.get_by_role("button", name="Make this part again").click()
        opens = page.get_by_role("status").get_by_role("button", name="Open")
        opens.wait_for(timeout=CLIP_MILLISECONDS)
        opens.click()
        page.get_by_role("region", name="About this clip").get_by_text('"oo"').first.wait_for()


def test_what_waits_is_changed_moved_cancelled_and_seen_in_two_tabs(studio: Studio, browser: Browser) -> None:
    with page_of(browser) as page, page_of(browser) as other:
        page.goto(studio.url)
        other.goto(f"{studio.url}#/queue")
        for colour in ("red", "green", "blue"):
            make(page, f"A {colour} ball bounces on a wooden floor.", 200, 6.0)  # long enough to be cancelled
        other.get_by_role("article", name="Being made: A red ball").wait_for()
        blue = other.get_by_role("article", name="Waiting: A blue ball")
        blue.get_by_role("button", name="Earlier").click()
        for tab in (other, page):
            first = tab.get_by_role("list", name="Waiting clips").get_by_role("listitem").first
            first.filter(has_text="blue").wait_for()
        blue.get_by_role("button", name="Change").click()
        other.get_by_role("group", name="Change of a clip that waits").get_by_text("A blue ball").wait_for()
        other.get_by_role("textbox", name="What is seen and heard").fill("A purple lamp blinks.")
        other.get_by_role("button", name="Keep the changes").click()
        page.get_by_role("article", name="Waiting: A purple lamp").wait_for()
        # The old one goes when the new one has its place: until then both wait, and either may be the first.
        other.get_by_role("status").get_by_text("Changed.").wait_for()
        page.close()
        other.goto(f"{studio.url}#/queue")
        waits = other.get_by_role("list", name="Waiting clips").get_by_role("listitem")
        for _ in range(2):
            row = waits.first.get_by_role("article")
            name = str(row.get_attribute("aria-label"))
            row.get_by_role("button", name="Cancel").click()
            other.get_by_role("article", name=name, exact=True).wait_for(state="detached")
        other.get_by_role("article", name="Being made").get_by_role("button", name="Cancel").click()
        other.get_by_text("Cancelled").nth(2).wait_for()
        other.get_by_role("article", name="Being made").wait_for(state="detached")


def test_the_server_is_restarted_and_nothing_is_lost(studio: Studio, browser: Browser) -> None:
    page = browser.new_page()  # a connection that breaks is written to the console
    page.goto(studio.url)
    make(page, "A green ball bounces on a metal floor.", 30)
    page.get_by_role("article", name="A green ball").wait_for()
    studio.stop()
    page.get_by_text("The server does not answer").first.wait_for()
    studio.start()
    page.get_by_role("link", name=re.compile("A green ball")).first.wait_for(timeout=CLIP_MILLISECONDS)
    page.close()


def test_a_broken_picture_is_refused_in_a_sentence(studio: Studio, browser: Browser, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    with page_of(browser) as page:
        page.goto(studio.url)
        page.get_by_role("textbox", name="What is seen and heard").fill("A red ball bounces.")
        page.get_by_role("group", name="First frame").locator("input[type=file]").set_input_files(broken)
        page.get_by_role("status").get_by_text("broken.png is not a picture that can be read. Use a PNG").wait_for()
        cut_off = tmp_path / "scan.tif"
        cut_off.write_bytes(b"II*\0 no browser shows pictures of this kind")
        page.get_by_role("group", name="First frame").locator("input[type=file]").set_input_files(cut_off)
        refused = page.get_by_text(re.compile("^The first frame cannot be read as an image"))
        refused.wait_for(timeout=CLIP_MILLISECONDS)  # the planner's process may have to start


def test_clips_are_found_tagged_deleted_and_brought_back(studio: Studio, browser: Browser) -> None:
    with page_of(browser) as page:
        page.goto(studio.url)
        page.keyboard.press("Escape")
        page.locator("body").press("/")
        search = page.get_by_role("searchbox", name="Search clips")
        search.fill("face oo")
        clips = page.get_by_role("list", name="Clips").get_by_role("listitem")
        page.get_by_role("status").get_by_text("1 clip", exact=True).wait_for()
        clips.first.get_by_role("link").focus()
        page.keyboard.press("f")
        clips.first.locator("button[aria-pressed=true]").wait_for()
        page.keyboard.press("Delete")
        page.get_by_text("No clip fits").wait_for()
        page.get_by_role("button", name="Undo").click()
        clips.first.wait_for()
        clips.first.get_by_role("link").click()
        page.get_by_label("Add a tag").fill("keep")
        page.keyboard.press("Enter")
        page.get_by_text("#keep").wait_for()
        page.get_by_role("link", name="Library").last.click()
        page.get_by_role("navigation", name="Shelves").get_by_text("#keep").wait_for()


def test_a_clip_goes_on_and_two_play_in_step(studio: Studio, browser: Browser) -> None:
    with page_of(browser) as page:
        page.goto(f"{studio.url}#/library")
        cards = page.get_by_role("list", name="Clips").get_by_role("listitem")
        cards.nth(1).wait_for()
        for index in (0, 1):
            cards.nth(index).get_by_role("checkbox").check(force=True)
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("button", name="Play all").click()
        for _ in range(300):  # the page's policy lets no text be evaluated again and again by the browser itself
            times = page.evaluate("[...document.querySelectorAll('video')].map((film) => film.currentTime)")
            if len(times) == 2 and min(times) > 0.2 and abs(times[0] - times[1]) < 0.15:
                break
            page.wait_for_timeout(100)
        assert len(times) == 2, times
        assert min(times) > 0.2, times
        assert abs(times[0] - times[1]) < 0.15, times
        page.get_by_role("button", name="Hear").nth(1).click()
        assert page.evaluate("[...document.querySelectorAll('video')].map((film) => film.muted)") == [True, False]
        page.get_by_role("link", name=re.compile("A ")).first.click()
        page.get_by_text("Continue", exact=True).click()
        page.get_by_role("button", name="Continue the clip").click()
        opens = page.get_by_role("status").get_by_role("button", name="Open")
        opens.wait_for(timeout=CLIP_MILLISECONDS)
        opens.click()
        frames = page.get_by_text(re.compile(r"frame 1 of \d+"))
        frames.wait_for()
        assert int(frames.inner_text().split()[-1]) > 49


@pytest.mark.parametrize("dark", [True, False])
def test_axe_finds_nothing_serious(studio: Studio, browser: Browser, dark: bool) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there: run npm ci in web/")
    with page_of(browser, dark=dark) as page:
        page.goto(f"{studio.url}#/library")
        card = page.get_by_role("list", name="Clips").get_by_role("link").first
        card.wait_for()
        clip = str(card.get_attribute("href"))
        for part in ("#/make", "#/queue", "#/library", "#/compare", "#/arena", "#/training", clip):
            page.goto(f"{studio.url}{part}")
            page.get_by_role("heading", level=1).first.wait_for()
            page.wait_for_timeout(1000)
            assert violations(page) == [], part
