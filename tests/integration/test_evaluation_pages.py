"""The pages in a real browser: they play, take keys, fit a narrow screen, ask for nothing outside and log no error.

Needs Chromium and `pip install playwright`; run by hand with `-m slow`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser import chromium
from tests.unit.evaluation_clips import ball, noise, shown
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.evaluation.arena.arena import Arena
from phonofilm.evaluation.arena.arena_server import ArenaServer
from phonofilm.evaluation.arena.votes import VoteFile

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test for a message on its console, or a request outside."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda request: problems.extend([] if _is_local(request.url) else [request.url[:80]]))
    yield opened
    assert problems == []
    opened.close()


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for model in ("one", "two"):
        (folder / model).mkdir()
        for name in ("a", "b"):
            shown(folder / model / f"{name}.mp4", ball(7, num_frames=97, size=64).frames, noise(4))
    return folder


def _narrow(page: Any) -> bool:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"))


def test_the_report_plays_and_takes_keys(clips: Path, page: Any, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["evaluate", str(clips / "one"), "--jobs", "1", "--allow-missing", "-o", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    page.goto((tmp_path / "report.html").as_uri())
    card = page.locator(".card").first
    card.focus()
    page.keyboard.press(" ")
    page.wait_for_timeout(1200)
    assert card.locator(".play").text_content() == "Pause"
    page.keyboard.press(" ")
    played = page.evaluate("() => document.querySelector('video').currentTime")
    assert 0.3 < played < 3
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert page.evaluate("() => document.querySelector('video').currentTime") == pytest.approx(played + 0.5, abs=0.1)
    assert float(card.locator(".cursor").first.get_attribute("x1")) > 4
    page.select_option("#state", "failed")
    assert page.locator("#count").text_content() == "0 clips"
    assert _narrow(page)


def test_the_arena_takes_a_vote_by_keys(clips: Path, page: Any, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    with ArenaServer(Arena([clips / "one", clips / "two"], votes)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(server.address)
        page.wait_for_timeout(800)
        page.keyboard.press(" ")
        page.wait_for_timeout(800)
        times = page.evaluate("() => [...document.querySelectorAll('video')].map((video) => video.currentTime)")
        assert min(times) > 0.2
        assert abs(times[0] - times[1]) < 0.1
        for key in "1231":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        assert "Kept" in page.locator("#said").text_content()
        assert [vote.answer for vote in VoteFile(votes).read()] == ["left", "tie", "right", "left"]
        assert _narrow(page)
        server.shutdown()
