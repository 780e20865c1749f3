"""The queue on the studio's page: what a set that waits again has, where the focus is after a move, and what is waited for."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from tests.browser import page_of
from tests.studio_page import NO_PLAN, answer_without_planner

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def tell(page: Page, *events: tuple[str, Any]) -> None:
    """Answer the page's stream of events with these alone."""
    body = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n" + body)

    page.route("**/v1/studio/events", answer)


def test_a_set_that_waits_again_has_its_clips_and_says_why(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        page.request.post(f"{url}/v1/videos", data={"prompt": "A red ball bounces.", "model": "nano", "n": 3})
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        clips = [f"{job['id']}_{number}" for number in range(2)]
        tell(page, ("jobs", {"running": [], "waiting": [job | {"clip_ids": clips}], "ended": []}))
        page.goto(f"{url}/studio#/queue")
        row = page.get_by_role("article", name="Waiting: A red ball bounces.")
        row.get_by_text("2 of 3 clips finished:").wait_for()
        assert [link.get_attribute("href") for link in row.get_by_role("link").all()] == [
            f"#/clip/{one}" for one in clips
        ]
        row.get_by_text(
            "It was broken off when the server or its worker stopped, and goes on with the one clip"
        ).wait_for()
        change = row.get_by_role("button", name="Change: A red ball bounces.")
        assert change.get_attribute("aria-disabled") == "true"
        assert "Clips of it are finished already" in str(change.get_attribute("title"))
        change.focus()
        page.keyboard.press("Enter")
        assert page.get_by_role("dialog").count() == 0
        assert page.evaluate("location.hash") == "#/queue", "the form would make the finished ones again"


def test_focus_stays_on_the_button_that_moved_a_row_to_the_top(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        for name in ("One", "Two", "Three"):
            page.request.post(f"{url}/v1/videos", data={"prompt": f"{name}.", "model": "nano"})
        page.goto(f"{url}/studio#/queue")
        rows = page.get_by_role("list", name="Waiting clips").get_by_role("article")
        rows.nth(2).wait_for()
        page.get_by_role("button", name="Earlier: Three.").focus()
        for place, said in ((1, "“Three.” is number 2 of 3 now."), (0, "“Three.” is the next one now.")):
            page.keyboard.press("Enter")
            page.get_by_role("status").get_by_text(said).wait_for()
            assert rows.nth(place).get_attribute("aria-label") == "Waiting: Three."
            assert page.evaluate("document.activeElement.ariaLabel") == "Earlier: Three."
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.ariaLabel") == "Earlier: Three.", "and it stays there"
        assert page.get_by_role("button", name="Earlier: Three.").get_attribute("aria-disabled") == "true"
        page.get_by_role("button", name="Later: Three.").focus()
        page.keyboard.press("Enter")
        page.get_by_role("status").get_by_text("“Three.” is number 2 of 3 now.").wait_for()
        page.keyboard.press("Enter")
        page.get_by_role("status").get_by_text("“Three.” is the last one now.").wait_for()
        assert page.evaluate("document.activeElement.ariaLabel") == "Later: Three."
        assert page.get_by_role("button", name="Later: Three.").get_attribute("aria-disabled") == "true"


def test_the_focus_is_on_no_button_after_a_clip_was_cancelled(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        for name in ("One", "Two"):
            page.request.post(f"{url}/v1/videos", data={"prompt": f"{name}.", "model": "nano"})
        page.goto(f"{url}/studio#/queue")
        page.get_by_role("button", name="Cancel: One.").focus()
        page.keyboard.press("Enter")
        page.get_by_role("article", name="Waiting: One.").wait_for(state="detached")
        page.wait_for_function("() => document.activeElement.matches('li')")
        assert "Two." in page.evaluate("document.activeElement.textContent")


def taken(page: Page, held: list[Route]) -> Route:
    """The next request that is held, once it is there."""
    for _ in range(1000):
        if held:
            break
        page.wait_for_timeout(20)
    return held.pop(0)


def test_an_answer_that_an_event_overtook_takes_nothing_back(browser: Browser, served: tuple[str, Services]) -> None:
    """The stream says each change once: a queue from before it, which comes later, would stay on the page for good."""
    url, _ = served
    streams: list[Route] = []
    answers: list[Route] = []
    with page_of(browser) as page:
        for name in ("One", "Two"):
            page.request.post(f"{url}/v1/videos", data={"prompt": f"{name}.", "model": "nano"})
        jobs = page.request.get(f"{url}/v1/studio/jobs").json()
        page.route("**/v1/studio/events", lambda route: streams.append(route))
        page.route("**/v1/studio/jobs", lambda route: answers.append(route))
        page.route("**/cancel", lambda route: route.fulfill(json={"status": "cancelled"}))
        page.goto(f"{url}/studio#/queue")
        first = f"retry: 10\n\nevent: jobs\ndata: {json.dumps(jobs)}\n\n"
        taken(page, streams).fulfill(content_type="text/event-stream", body=first)
        page.get_by_role("button", name="Cancel: One.").click()
        late = taken(page, answers)
        gone = json.dumps({"id": jobs["waiting"][1]["id"]})
        second = f"retry: 600000\n\nevent: removed\ndata: {gone}\n\n"
        taken(page, streams).fulfill(content_type="text/event-stream", body=second)
        two = page.get_by_role("article", name="Waiting: Two.")
        two.wait_for(state="detached")
        late.fulfill(json=jobs)
        now = taken(page, answers)
        assert two.count() == 0
        now.fulfill(json={"running": [], "waiting": [], "ended": []})
        page.get_by_role("heading", name="Nothing waits").wait_for()
        page.unroute_all(behavior="ignoreErrors")


def test_what_is_waited_for_is_said_and_since_when(browser: Browser, served: tuple[str, Services]) -> None:
    """From the start of the server on, not from when the page was opened."""
    url, _ = served
    with page_of(browser) as page:
        answer_without_planner(page)
        page.request.post(f"{url}/v1/videos", data={"prompt": "A bell rings.", "model": "nano"})
        jobs = page.request.get(f"{url}/v1/studio/jobs").json()
        info = page.request.get(f"{url}/v1/studio/info").json()
        assert time.time() - 60 < info["started_at"] <= time.time()
        now: dict[str, Any] = {"started_at": time.time() - 100, "workers": []}
        page.route("**/v1/studio/info", lambda route: route.fulfill(json=info | now))
        tell(page, ("jobs", jobs))
        page.goto(f"{url}/studio#/queue")
        state = page.get_by_role("banner").get_by_role("status")
        state.get_by_text("Starting a worker").wait_for()
        page.get_by_role("banner").get_by_text(re.compile("for 2 min")).wait_for()
        page.get_by_text("Nothing is made yet: a process that makes clips is starting, for 2 min.").wait_for()
        worker = {"state": "starting", "models": ["nano"], "memory": 1.0}
        now["workers"] = [worker]
        page.reload()
        state.get_by_text("Loading nano").wait_for()
        page.get_by_text("Nothing is made yet: nano is being loaded, for 2 min.").wait_for()
        now["workers"] = [worker | {"state": "ready"}]
        page.reload()
        state.get_by_text("Ready").wait_for()
        assert page.get_by_text("Nothing is made yet").count() == 0
        now["workers"] = [worker | {"state": "engine_away"}]
        page.reload()
        state.get_by_text("The engine that makes the clips does not answer. Clips wait for it.").wait_for()
        now.update(started_at=now["started_at"] - 86_400, workers=[])
        page.reload()
        state.get_by_text("No worker runs: clips wait").wait_for()


def test_a_plan_says_that_the_waiting_is_being_worked_out(browser: Browser, served: tuple[str, Services]) -> None:
    """Before the planner's first answer, and when the queue is another one since: without a wait it is taken for none."""
    url, _ = served
    held: list[Route] = []
    answer: dict[str, Any] | None = None

    def give(plan: dict[str, Any] | None) -> None:
        """Answer what was asked, and what is asked from now on: the page may ask again before it has an answer."""
        nonlocal answer
        answer = plan
        while held and plan is not None:
            held.pop().fulfill(json=plan)

    def asked(route: Route) -> None:
        held.append(route)
        give(answer)

    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/studio/plan", asked)
        page.goto(f"{url}/studio")
        plan = page.locator(".plan")
        page.get_by_label("What is seen and heard").fill("A bell rings.")
        plan.get_by_text("Working out what this computer can do…", exact=True).wait_for()
        clip = {
            "width": 64, "height": 64, "num_frames": 49, "fps": 24.0, "seconds": 2.0, "steps": 4, "forwards": 4, "parts": 1
        }  # fmt: skip
        found = NO_PLAN | {"clip": clip, "seconds": 8.0, "seconds_basis": "measured", "queue_seconds": 0.0}
        give(found)
        plan.get_by_text("2 s, 64 × 64 · about 8 s (measured here)", exact=True).wait_for()
        give(None)
        page.get_by_role("button", name="Make clip").click()
        plan.get_by_text("about 8 s (measured here) · working out how long the queue takes first…").wait_for()
        give(found | {"queue_seconds": 30.0, "waiting_seconds": 30.0})
        plan.get_by_text("about 8 s (measured here) after 30 s of waiting").wait_for()
        give(None)
        page.reload()
        plan.get_by_text("Working out what it takes, and how long it waits…").wait_for()
        page.unroute_all(behavior="ignoreErrors")
