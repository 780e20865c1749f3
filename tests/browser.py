"""A headless Chromium for tests of pages, which takes down what goes wrong in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.unit.serving_helpers import skip_without

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds; nothing waits that long unless it is broken or the machine is busy


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser. Skips the test where there is none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        skip_without("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Browser, *, width: int = 1280, height: int = 800, dark: bool = True) -> Iterator[Page]:
    """A page of its own. At its end there may have been no error in it, and no request to another host."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", bypass_csp=False
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    wrong: list[str] = []
    hosts: set[str] = set()

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(message.text)

    def on_request(request: Request) -> None:
        if request.url.startswith("http"):
            hosts.add(request.url.split("/")[2])

    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", on_request)
    try:
        yield page
        if not page.is_closed():
            page.goto("about:blank")  # what it still waits for is given up while the test's routes answer
    finally:
        context.close()
    assert wrong == [], wrong
    assert len(hosts) == 1, hosts
