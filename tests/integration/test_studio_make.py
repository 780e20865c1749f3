"""The form of the studio: what is being made stays in sight, and where files can be dropped is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.browser import page_of
from tests.studio_page import NO_PLAN, WORKS, answer_without_planner, finished_clip, show_a_picture, show_a_worker

from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

DRAG = """
    (kind) => {
        const given = new DataTransfer();
        given.items.add(new File(["x"], "a.bin"));
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true }));
    }
"""


def tell(page: Page, *events: tuple[str, Any]) -> None:
    """Answer the page's stream of events with these alone."""
    body = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n" + body)

    page.route("**/v1/studio/events", answer)


def test_what_is_made_is_seen_from_the_end_of_the_form(browser: Browser, served: tuple[str, Services]) -> None:
    """On a phone it is far from the form; the finished clip is then said with a way to it."""
    url, services = served
    with page_of(browser, width=390, height=700) as page:
        page.request.post(f"{url}/v1/videos", data={"prompt": "A red ball bounces.", "model": "nano"})
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        running = job | {"status": "in_progress", "step": 3, "steps": 8, "progress": 42, "eta_seconds": 12}
        clip = finished_clip(services, "A bell is played.")
        done = running | {"status": "completed", "clip_ids": [clip]}
        answer_without_planner(page)
        show_a_picture(page)
        show_a_worker(page, url)
        tell(page, ("jobs", {"running": [running], "waiting": [], "ended": []}))
        page.goto(f"{url}/studio")
        state = page.get_by_role("banner").get_by_role("link", name="Making 1 clip")
        state.wait_for()
        assert "42 % · 12 s left" in state.inner_text()
        assert state.evaluate("one => one.scrollWidth <= one.clientWidth"), "all of it is seen"
        state.click()
        page.get_by_role("article", name="Being made: A red ball bounces.").wait_for()
        page.unroute("**/v1/studio/events")
        tell(page, ("jobs", {"running": [running], "waiting": [], "ended": []}), ("job", done))
        page.goto("about:blank")
        page.goto(f"{url}/studio")
        page.get_by_role("status").get_by_text("Finished: A red ball bounces.").wait_for()


def test_where_files_can_be_dropped_is_shown_while_they_are_dragged(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, _ = served
    with page_of(browser) as page:
        answer_without_planner(page)
        page.goto(f"{url}/studio")
        page.get_by_text("Start from a film, a sound or a voice, chosen or dropped here").wait_for()
        film = page.get_by_role("group", name="A film that wants sound")
        assert film.is_hidden()
        page.evaluate(DRAG, "dragover")
        film.get_by_text("Drop a film here, or:").wait_for()
        page.goto(f"{url}/studio#/library")
        page.get_by_role("heading", name="Library").wait_for()
        page.evaluate(DRAG, "dragover")
        page.get_by_text("Drop films here: they come into the library").wait_for()
        page.get_by_text("Drop films here: they come into the library").wait_for(state="detached")


def test_a_sound_that_is_taken_out_leaves_its_field_in_sight(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    given = {"name": "a.flac", "mimeType": "audio/flac", "buffer": b"fLaC" + bytes(100)}
    with page_of(browser) as page:
        answer_without_planner(page)
        page.goto(f"{url}/studio")
        field = page.get_by_label("A sound that wants a picture", exact=True)
        field.locator("input[type=file]").set_input_files(given)
        field.get_by_role("button", name="Remove: A sound that wants a picture").click()
        field.get_by_text("Drop a sound here, or:").wait_for()


def test_escape_empties_a_search_before_it_closes_anything(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    finished_clip(services, "A bell is played.")
    with page_of(browser) as page:
        answer_without_planner(page)
        show_a_picture(page)
        page.goto(f"{url}/studio#/library")
        search = page.get_by_label("Search clips")
        search.fill("drum")
        page.get_by_text("No clip fits").wait_for()
        search.press("Escape")
        page.get_by_role("link", name="A bell is played.").first.wait_for()
        assert search.input_value() == ""
        page.goto(f"{url}/studio#/make")
        page.get_by_role("button", name="First frame: frame of a clip").click()
        dialog = page.get_by_role("dialog", name="Frame of a clip")
        search = dialog.get_by_label("Search clips")
        search.fill("drum")
        dialog.get_by_text("There is no such clip yet.").wait_for()
        search.press("Escape")
        dialog.get_by_role("button", name="A bell is played.").wait_for()
        assert search.input_value() == ""
        search.press("Escape")
        dialog.wait_for(state="detached")


def test_the_field_for_the_key_has_the_keyboard(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    session = {"needs_key": True, "signed_in": False, "can_read": False, "can_write": False, "can_administer": False}
    with page_of(browser) as page:
        page.route("**/studio/session", lambda route: route.fulfill(json=session))
        page.goto(f"{url}/studio")
        page.get_by_label("Key").wait_for()
        assert page.evaluate("document.activeElement.id") == "key"


def test_what_is_said_stays_in_a_shortened_title(browser: Browser, served: tuple[str, Services]) -> None:
    """A retake that says another word has the beginning and the end of the clip that it was made from."""
    url, services = served
    words = 'A yellow face with a black top hat says "{}" in a low voice, in front of a cream wall.'
    for said in ("ah", "oo"):
        finished_clip(services, words.format(said))
    with page_of(browser) as page:
        answer_without_planner(page)
        show_a_picture(page)
        page.goto(f"{url}/studio#/library")
        page.get_by_text('A yellow face with a black top … "oo" … in front of a cream wall.', exact=True).wait_for()
        page.get_by_text('A yellow face with a black top … "ah" … in front of a cream wall.', exact=True).wait_for()


def test_what_is_set_in_the_folded_part_stays_in_sight(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        answer_without_planner(page)
        page.goto(f"{url}/studio")
        page.get_by_text("More settings").click()
        page.get_by_label("Steps", exact=True).fill("1")
        page.get_by_label("Seed", exact=True).fill("5")
        page.get_by_label("What should not be seen or heard").fill("rain")
        page.get_by_text("More settings").click()
        page.get_by_text("Set: 1 step, seed 5, not: rain", exact=True).wait_for()
        page.get_by_role("button", name="Reset").click()
        page.get_by_text("Set: 1 step, seed 5, not: rain", exact=True).wait_for(state="detached")
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("Set: 1 step, seed 5, not: rain", exact=True).wait_for()


def test_the_plan_waits_as_long_as_the_top_of_the_page_says(browser: Browser, served: tuple[str, Services]) -> None:
    """What the server counted of the clip that is being made is an earlier estimate; what waits is added to the newest."""
    url, _ = served
    plan = NO_PLAN | {"seconds": 8.0, "seconds_basis": "measured", "queue_seconds": 66.0, "waiting_seconds": 20.0}
    with page_of(browser) as page:
        page.request.post(f"{url}/v1/videos", data={"prompt": "A red ball bounces.", "model": "nano"})
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        running = job | {"status": "in_progress", "step": 3, "steps": 8, "progress": 42, "eta_seconds": 16}
        answer_without_planner(page)
        show_a_worker(page, url, WORKS)
        page.route("**/v1/studio/plan", lambda route: route.fulfill(json=plan))
        tell(page, ("jobs", {"running": [running], "waiting": [], "ended": []}))
        page.goto(f"{url}/studio")
        page.get_by_role("banner").get_by_text("16 s left").wait_for()
        page.get_by_label("What is seen and heard").fill("A bell rings.")
        page.locator(".plan").get_by_text("about 8 s (measured here) after 36 s of waiting").wait_for()


def test_the_words_of_the_model_are_in_groups(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        page.route("**/v1/studio/plan", lambda route: route.fulfill(json=NO_PLAN))
        page.goto(f"{url}/studio")
        page.get_by_text("Words that nano knows").click()
        said = page.get_by_role("group", name="What is said")
        said.get_by_role("button", name="oo", exact=True).click()
        assert page.get_by_label("What is seen and heard").input_value() == "oo"
        assert (
            page.get_by_role("group", name="Words between them")
            .get_by_role("button", name="a", exact=True)
            .is_visible()
        )


def test_what_is_being_made_is_seen_from_the_end_of_a_long_form(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    for number in range(12):
        finished_clip(services, f"Bell {number} rings.")
    with page_of(browser, height=600) as page:
        answer_without_planner(page)
        show_a_picture(page)
        page.goto(f"{url}/studio")
        page.get_by_label("What is seen and heard").fill("A red ball bounces.")
        page.get_by_role("heading", name="Newest clips").wait_for()
        page.locator("main").evaluate("main => main.scrollTo(0, 99999)")
        page.get_by_role("button", name="Make clip").click()
        row = page.get_by_role("article", name="Waiting: A red ball bounces.")
        row.wait_for()
        box = row.bounding_box()
        assert box is not None
        assert 52 <= box["y"] < 600


def test_a_clip_whose_worker_has_ended_is_not_said_to_be_made(browser: Browser, served: tuple[str, Services]) -> None:
    """Until another worker takes it, there is no time left to be counted."""
    url, _ = served
    with page_of(browser) as page:
        page.request.post(f"{url}/v1/videos", data={"prompt": "A red ball bounces.", "model": "nano"})
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        running = job | {"status": "in_progress", "step": 3, "steps": 8, "progress": 37, "eta_seconds": 40}
        answer_without_planner(page)
        show_a_worker(page, url, WORKS | {"state": "starting"})
        tell(page, ("jobs", {"running": [running], "waiting": [], "ended": []}))
        page.goto(f"{url}/studio#/queue")
        page.get_by_role("banner").get_by_text("The worker is started again").wait_for()
        made = page.get_by_role("article", name="Being made: A red ball bounces.")
        made.get_by_text("The worker is started again. The clip then goes on, or begins anew.").wait_for()
        assert page.get_by_text("37 %").count() + page.get_by_text("left").count() == 0
