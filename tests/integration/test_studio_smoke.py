"""The studio's page in a browser, on a server where nobody works: a clip asked for and cancelled, and a page that is quiet."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from tests.browser import page_of
from tests.studio_page import (
    NO_PLAN,
    NO_WORDS,
    WORKS,
    answer_without_film,
    answer_without_planner,
    finished_clip,
    show_a_picture,
    show_a_worker,
)
from tests.unit.serving_helpers import PNG

from phonofilm.media.readable import MAX_IMAGE_PIXELS
from phonofilm.pipeline.edit_tasks import OVERLAP_FRAMES
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.job_queue import waiting
from phonofilm.serving.security.access import OPEN_ACCESS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request, Route

# What the server says, and how the page says it to who knows neither the command line nor the API.
SENTENCES = {
    "key: String should have at least 1 character": "The key is empty: write something there.",
    "folder: String should have at most 100 characters": "The folder has more than 100 letters: write less.",
    "prompt: String should match pattern '^a$'":
        "“What is seen and heard” cannot be read as it is written: write it in another way.",
    "image is a frame of what is made, and the given clip keeps its own; leave image out":
        "The film keeps its own frames: take the first and the last frame out.",
    "the clip to continue has 5 frames, and the model goes on from the last 17 (overlap_frames); give a longer one":
        "The model goes on from 17 frames of the clip, and up to this moment there are 5: go on from a later one.",
    "a last frame was given for a clip of one frame; use num_frames 5 or more":
        "There is a last frame, and the clip has one frame only: make it longer.",
    "two keyframes are closer than 0.167 s, for which the model has one place; leave one out":
        "Two pictures for moments in between are closer than 0.167 s, too close for the model: leave one out.",
    "keyframe at 3 s is outside the clip, which is 2.04 s long":
        "The picture at 3 s is outside the clip, which is 2.04 s long.",
    "retake 5:6 is not a stretch of a clip of 2.042 s; use seconds, start before end":
        "The part from 5 to 6 s does not lie in the clip, which is 2.042 s long.",
    "retake 1:1.01 is shorter than a frame of the clip, 0.0417 s; give a longer one":
        "The part from 1 to 1.01 s is shorter than a frame of the clip, 0.0417 s; give a longer one.",
    "the clip to retake has no sound; give it one first with video= alone":
        "The clip to retake has no sound; give it one first, with “New sound”.",
    "input_reference cannot be read as an image: cannot identify image file 'input_reference'; give a whole PNG, JPEG or "
    "WebP file": "The first frame cannot be read as an image; give a whole PNG, JPEG or WebP file.",
    "negative_prompt changes nothing without guidance: guidance_scale is 1":
        "“What should not be seen or heard” changes nothing while “Keep to the words” is 1.",
    "guidance_scale is 5, and this model was distilled for 1: the clip will be worse; leave guidance_scale out":
        "“Keep to the words” is 5, and this model was trained for 1: the clip will be worse; leave the field open.",
    "offload layer needs 11.4 GB of device memory and 70.1 GB of host memory for this clip; there are 8 GB and 23 GB of "
    "host memory. What would fit: 70.1 GB of free host memory, with offload layer; or offload_to_disk, with a folder on a "
    "fast disk":
        "It needs 11.4 GB of memory on the graphics card and 70.1 GB of the computer's memory for this clip; there are "
        "8 GB and 23 GB of the computer's memory. What would fit: 70.1 GB of free memory of the computer.",
    "LoRA grain: 12 of its names have another shape; another model, or another --expert?: video.blocks.0.q (made for "
    "32x16, the layer is 64x64), ...":
        "“grain” was trained for another model than this one: leave it out, or choose the model that it was trained for.",
    "the LoRA grain: 12 of its names are no linear layers of this model: video.blocks.0.q":
        "“grain” was trained for another model than this one: leave it out, or choose the model that it was trained for.",
    "12 adapters do not fit this model: video.blocks.0.q (made for 32x16)":
        "A style or voice (LoRA) was trained for another model than this one: leave it out, or choose the model that it "
        "was trained for.",
    "audio has no sound": "There is no sound in the file that was given: give another one.",
    "the prompt has 600 tokens and the model reads 512; shorten it":
        "The prompt has 600 words and parts of words, and the model reads 512; shorten it.",
    "video_0a has no such clip: it is in_progress": "This clip is not there: it is being made.",
    "the queue is full: 1000 jobs wait": "The queue is full: 1000 clips wait.",
}  # fmt: skip


# How often the page turned to where it keeps files.
COUNT_WHAT_IS_KEPT = """
    window.kept = 0;
    const { open } = IDBFactory.prototype;
    IDBFactory.prototype.open = function (...given) {
        window.kept += 1;
        return open.apply(this, given);
    };
"""


def test_a_clip_is_asked_for_waits_and_is_cancelled(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    with page_of(browser) as page:
        answer_without_planner(page)
        page.goto(f"{url}/studio")
        page.get_by_label("What is seen and heard").fill("A red ball bounces on a wooden floor.")
        page.get_by_role("button", name="Make clip").click()
        waits = page.get_by_role("article", name="Waiting: A red ball bounces on a wooden floor.")
        waits.wait_for()
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert (job.request.prompt, job.model) == ("A red ball bounces on a wooden floor.", "nano")
        page.reload()
        waits.get_by_role("button", name="Cancel").click()
        waits.wait_for(state="detached")
        assert waiting(services.database, OPEN_ACCESS) == []
        page.keyboard.press("4")
        page.get_by_role("heading", name="Compare", exact=True).wait_for()
        page.keyboard.press("/")
        page.locator("#search:focus").wait_for()
        assert page.title() == "Library · Phonofilm Studio"


def test_what_this_browser_kept_of_another_server_is_in_nobodys_way(
    browser: Browser, served: tuple[str, Services]
) -> None:
    """A LoRA and a writing model that are not here, a preset with the name of a ready one, an address that was cut short."""
    url, services = served
    draft = {"text": "A red ball bounces.", "help": True, "loras": [{"name": "gone", "picture": 1, "sound": 1}]}
    kept = {"phonofilm-draft": draft, "phonofilm-presets": [{"name": "Normal", "numbers": {"seconds": 1}, "own": True}]}
    with page_of(browser) as page:
        answer_without_planner(page)
        items = "".join(
            f"localStorage.setItem({json.dumps(name)}, {json.dumps(json.dumps(one))});" for name, one in kept.items()
        )
        page.add_init_script(f"if (location.protocol !== 'about:') {{ {items} }}")
        page.goto(f"{url}/studio#/make/%")
        page.get_by_role("button", name="Normal", exact=True).click()
        assert page.get_by_label("Seconds").input_value() == "1"
        page.get_by_role("button", name="Leave out gone").click()
        page.get_by_role("button", name="Make clip").click()
        page.get_by_role("article", name="Waiting: A red ball bounces.").wait_for()
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert (job.request.options["seconds"], job.request.loras, job.request.enhance_prompt) == (1, None, False)


def test_a_clip_without_any_lora_is_asked_for_again_without_any(browser: Browser, served: tuple[str, Services]) -> None:
    """The command line asks for it with `--lora none`; the form has no other way to."""
    url, services = served
    draft = json.dumps({"text": "A blue ball bounces.", "loras": [{"name": "none", "picture": 1, "sound": 1}]})
    with page_of(browser) as page:
        answer_without_planner(page)
        page.add_init_script(
            f"if (location.protocol !== 'about:') localStorage.setItem('phonofilm-draft', {json.dumps(draft)});"
        )
        page.goto(f"{url}/studio#/make")
        page.get_by_text("not the few steps that the model has of its own").wait_for()
        assert page.get_by_text("It is not offered here any more").count() == 0
        assert page.get_by_label("Picture 1.00").count() == 0
        page.get_by_role("button", name="Make clip").click()
        page.get_by_role("article", name="Waiting: A blue ball bounces.").wait_for()
        found = [job.request.loras for job in waiting(services.database, OPEN_ACCESS)]
        assert ["none"] in found


def test_the_plan_says_what_is_taken_in_all(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    clip = {
        "width": 64, "height": 64, "num_frames": 49, "fps": 24.0, "seconds": 2.0, "steps": 4, "forwards": 4, "parts": 1
    }  # fmt: skip
    memory = {"weights_bytes": 38e6, "peak_bytes": 84e6, "host_bytes": 84e6, "available_bytes": 8e9, "text": None}
    with page_of(browser) as page:
        answer_without_planner(page)
        plan = NO_PLAN | {"clip": clip, "memory": memory | {"where": "host"}}
        page.route("**/v1/studio/plan", lambda route: route.fulfill(json=plan))
        page.goto(f"{url}/studio")
        page.get_by_label("What is seen and heard").fill("A red ball bounces.")
        page.get_by_text("Memory: peak 84 MB (weights 38 MB), 8.0 GB free.").wait_for()
        card = {**memory, "where": "device", "host_bytes": 3e9, "text": "components wait in host memory"}
        page.unroute("**/v1/studio/plan")
        page.route("**/v1/studio/plan", lambda route: route.fulfill(json=NO_PLAN | {"clip": clip, "memory": card}))
        page.get_by_label("What is seen and heard").fill("A red ball bounces high.")
        page.get_by_text("Components wait in the computer's memory.").wait_for()
        page.get_by_role("button", name="More").click()
        expected = "Graphics card: peak 84 MB (weights 38 MB in all), 8.0 GB free; 3.0 GB of memory besides."
        page.get_by_text(expected).wait_for()


def test_the_servers_sentences_are_in_the_words_of_the_page(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    refused = [{"message": message, "param": None, "code": "invalid_value"} for message in SENTENCES]
    plan = NO_PLAN | {"possible": False, "refused": refused}
    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/studio/plan", lambda route: route.fulfill(json=plan))
        page.goto(f"{url}/studio")
        page.get_by_label("What is seen and heard").fill("A red ball bounces.")
        page.get_by_role("button", name="More", exact=True).click()
        page.get_by_text("1000 clips wait").wait_for()
        assert page.locator(".plan p.bad .text").all_inner_texts() == list(SENTENCES.values())


def test_a_given_file_is_sent_once(browser: Browser, served: tuple[str, Services]) -> None:
    """Not with every plan, and each letter may be one; and once more when the server has it no longer."""
    url, services = served
    picture = Image.effect_noise((640, 640), 90)
    content = io.BytesIO()
    picture.save(content, "PNG")
    sent: list[int] = []
    gone = NO_PLAN | {"possible": False, "refused": [{"message": "gone", "param": None, "code": "upload_not_found"}]}
    plans = iter([NO_PLAN, gone, *[NO_PLAN] * 20])
    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/studio/plan", lambda route: route.fulfill(json=next(plans)))
        page.on("request", lambda request: sent.append(len(request.post_data_buffer or b"")))
        page.goto(f"{url}/studio")
        given = {"name": "noise.png", "mimeType": "image/png", "buffer": content.getvalue()}
        page.get_by_role("group", name="First frame").locator("input[type=file]").set_input_files(given)
        words = page.get_by_label("What is seen and heard")
        for text in ("A red ball", "A red ball bounces", "A red ball bounces high."):
            with page.expect_response("**/v1/studio/plan"):
                words.fill(text)
        page.get_by_role("button", name="Make clip").click()
        page.get_by_role("article", name="Waiting: A red ball bounces high.").wait_for()
        (job,) = waiting(services.database, OPEN_ACCESS)
        stored = b"".join(services.store.read(job.request.inputs["image"], 0, 10**7))
        assert stored == content.getvalue()
        large = [size for size in sent if size >= len(stored)]
        assert len(large) == 2, "at first, and when it was gone"
        assert sum(sent) - sum(large) < 5000


def test_words_are_written_out_in_the_field_and_ones_own_come_back(
    browser: Browser, served: tuple[str, Services]
) -> None:
    """What is made is what the field says: the text of the writing model is seen, and nothing is rewritten afterwards."""
    url, services = served
    with page_of(browser) as page:
        info = page.request.get(f"{url}/v1/studio/info").json()
        info["features"]["enhance_prompt"] = True
        page.route("**/v1/studio/info", lambda route: route.fulfill(json=info))
        answer_without_planner(page)
        page.route(
            "**/v1/studio/prompt",
            lambda route: route.fulfill(json={"prompt": f"{route.request.post_data_json['prompt']} shouts."}),
        )
        page.goto(f"{url}/studio")
        words = page.get_by_label("What is seen and heard")
        words.fill("a lady")
        page.get_by_role("button", name="Write it out").click()
        page.get_by_role("button", name="Undo").click()
        assert words.input_value() == "a lady"
        page.get_by_role("button", name="Write it out").click()
        page.get_by_role("button", name="Undo").wait_for()
        page.get_by_role("button", name="Make clip").click()
        page.get_by_role("article", name="Waiting: a lady shouts.").wait_for()
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert (job.request.prompt, job.request.enhance_prompt) == ("a lady shouts.", False)


def test_a_waiting_retakes_lora_is_changed(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    services.worker = replace(services.worker, loras={"film": "film", "voice": "voice"})
    with page_of(browser) as page:
        answer_without_planner(page)
        film = {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"\0\0\0\x18ftypisom"}
        asked = {"prompt": "A red ball bounces.", "start": "0.5", "end": "1", "loras": "film:0.8", "video": film}
        assert page.request.post(f"{url}/v1/videos/edits", multipart=asked).ok
        page.goto(f"{url}/studio#/queue")
        page.get_by_role("article", name="Waiting: A red ball").get_by_role("button", name="Change").click()
        form = page.get_by_role("dialog", name="Change this clip")
        form.get_by_label("Sound 0.80").fill("0.25")
        form.get_by_label("Add a style or voice (LoRA)").select_option("voice")
        form.get_by_role("button", name="Keep the changes").click()
        form.wait_for(state="detached")
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert job.request.loras == ["film:video=0.8,audio=0.25", "voice:1"]
        page.get_by_role("article", name="Waiting: A red ball").get_by_role("button", name="Change").click()
        for name in ("film", "voice"):
            form.get_by_role("button", name=f"Leave out {name}").click()
        form.get_by_role("button", name="Keep the changes").click()
        form.wait_for(state="detached")
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert (job.request.loras, job.request.options["retake"]) == ([], [0.5, 1])


def test_a_browser_that_keeps_nothing_shows_the_page(browser: Browser, served: tuple[str, Services]) -> None:
    """Where site data is blocked, asking for what was kept is an error."""
    url, _ = served
    blocked = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError') }})"
    with page_of(browser) as page:
        page.add_init_script(blocked)
        page.goto(f"{url}/studio#/training")
        page.get_by_role("heading", name="No training is shown here").wait_for()


def test_a_library_that_could_not_be_listed_is_asked_for_again(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    page = browser.new_page()  # an answer of 500 is written to the console
    page.route("**/v1/studio/clips?*", lambda route: route.fulfill(status=500, json={}))
    # A change of the library would be listed without the button.
    silence = {"content_type": "text/event-stream", "body": "retry: 600000\n\n"}
    page.route("**/v1/studio/events", lambda route: route.fulfill(**silence))
    page.goto(f"{url}/studio#/library")
    page.get_by_role("heading", name="The clips could not be listed").wait_for()
    page.unroute("**/v1/studio/clips?*")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", name="No clips yet").wait_for()
    page.close()


def test_the_library_is_read_once_for_each_change(browser: Browser, served: tuple[str, Services]) -> None:
    """An effect that followed what it changed asked for all clips ten times a second, and nobody could scroll."""
    url, _ = served
    changes, listings = [0], [0]

    def tell_of_a_change(route: Route) -> None:
        changes[0] += 1
        route.fulfill(content_type="text/event-stream", body='event: clips\ndata: {"revision": 1}\n\n')

    def count(request: Request) -> None:
        listings[0] += "/v1/studio/clips?" in request.url

    with page_of(browser) as page:
        page.route("**/v1/studio/events", tell_of_a_change)
        page.on("request", count)
        page.goto(f"{url}/studio#/library")
        page.get_by_role("heading", name="No clips yet").wait_for()
        page.evaluate("async () => { for (let i = 0; i < 100; i++) await fetch('/liveness'); }")
        assert 1 <= listings[0] <= 1 + changes[0]


def test_a_page_older_than_its_server_says_so(browser: Browser, served: tuple[str, Services]) -> None:
    """The stream of events breaks off, and when it is there again the server has another page."""
    url, _ = served
    answers = [0]

    with page_of(browser) as page:
        info = page.request.get(f"{url}/v1/studio/info").json()

        def answer(route: Route) -> None:
            answers[0] += 1
            route.fulfill(json=info | {"page": info["page"] if answers[0] == 1 else "another"})

        page.route("**/v1/studio/info", answer)
        answer_without_planner(page)
        page.route(
            "**/v1/studio/events",
            lambda route: route.fulfill(content_type="text/event-stream", body="retry: 10\n\n"),
        )
        page.goto(f"{url}/studio")
        page.get_by_role("alert").get_by_text("The studio was updated while this page was open").wait_for()
        page.get_by_role("button", name="Reload").wait_for()
        page.unroute_all(behavior="ignoreErrors")  # the stream begins again until the page is closed


def test_a_part_that_cannot_be_loaded_leaves_no_empty_page(browser: Browser, served: tuple[str, Services]) -> None:
    """After an update of the server the files that an open page would load are gone."""
    url, _ = served
    page = browser.new_page()  # an answer of 404 is written to the console
    page.route("**/assets/QueueView*.js", lambda route: route.fulfill(status=404))
    page.goto(f"{url}/studio#/queue")
    page.get_by_role("heading", name="This part could not be loaded").wait_for()
    page.get_by_role("button", name="Reload the page").wait_for()
    page.close()


def test_the_clips_of_a_set_are_there_as_they_are_finished(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    listings = [0]

    def count(request: Request) -> None:
        listings[0] += "/v1/studio/clips?" in request.url

    with page_of(browser) as page:
        asked = {"prompt": "A red ball bounces.", "model": "nano", "n": 3}
        page.request.post(f"{url}/v1/videos", data=asked)
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        clips = [f"{job['id']}_{number}" for number in range(2)]
        running = job | {"status": "in_progress", "step": 1, "steps": 9}
        steps = [("job", running | {"step": step, "clip_ids": clips}) for step in range(2, 9)]
        events = [("jobs", {"running": [running], "waiting": [], "ended": []}), *steps]

        def tell(route: Route) -> None:
            body = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)
            route.fulfill(content_type="text/event-stream", body="retry: 100000\n\n" + body)

        page.route("**/v1/studio/events", tell)
        answer_without_planner(page)
        page.on("request", count)
        page.goto(f"{url}/studio")
        made = page.get_by_role("article", name="Being made: A red ball bounces.")
        made.get_by_text("2 of 3 clips finished").wait_for()
        addresses = [link.get_attribute("href") for link in made.get_by_role("link", name="Open").all()]
        assert addresses == [f"#/clip/{clip}" for clip in clips]
        assert listings[0] <= 2, "at first, and when clips came"
        again = ("jobs", {"running": [], "waiting": [job | {"clip_ids": clips}], "ended": []})
        events[:] = [again]
        page.reload()
        waits = page.get_by_role("article", name="Waiting: A red ball bounces.")
        waits.get_by_role("button", name="Cancel").wait_for()
        change = waits.get_by_role("button", name="Change")
        assert change.get_attribute("aria-disabled") == "true", "a change would throw away what is finished"
        page.unroute_all(behavior="ignoreErrors")


def test_previews_come_one_at_a_time_and_the_newest_next(browser: Browser, served: tuple[str, Services]) -> None:
    """Over a slow connection each new step would else break off the picture of the one before, and none would ever be seen."""
    url, _ = served
    held: list[Route] = []
    with page_of(browser) as page:
        made = page.request.post(f"{url}/v1/videos", data={"prompt": "A red ball bounces.", "model": "nano"}).json()
        (job,) = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        first, *later = (("preview", {"id": made["id"], "step": step, "url": "/held-preview"}) for step in (1, 2, 3))
        jobs = ("jobs", {"running": [job | {"status": "in_progress"}], "waiting": [], "ended": []})
        sent = [[jobs, first]]

        def tell(route: Route) -> None:
            events = [f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in sent[-1]]
            route.fulfill(content_type="text/event-stream", body="retry: 10\n\n" + "".join(events))

        page.route("**/v1/studio/events", tell)
        page.route("**/held-preview*", lambda route: held.append(route))
        with page.expect_request("**/held-preview?step=1"):
            page.goto(f"{url}/studio#/queue")
        sent.append(later)
        for _ in range(
            3
        ):  # the answer that may be on its way, the one with the later steps, and one when that was read
            with page.expect_request("**/v1/studio/events"):
                pass
        assert len(held) == 1
        with page.expect_request("**/held-preview?step=3"):
            held[0].fulfill(content_type="image/png", body=PNG)
        page.get_by_alt_text("What the clip begins to look like").wait_for()
        page.unroute_all(behavior="ignoreErrors")


def test_a_cancelled_row_is_removed_and_its_clips_stay(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clip = finished_clip(services, "A red ball bounces.", status="cancelled")
    with page_of(browser) as page:
        page.goto(f"{url}/studio#/queue")
        page.get_by_role("article", name="Cancelled: A red ball").get_by_role("link", name="Open").wait_for()
        page.get_by_role("button", name="Remove from the list: A red ball bounces.").click()
        page.get_by_role("heading", name="Nothing waits").wait_for()
        listed = page.request.get(f"{url}/v1/studio/clips").json()["data"]
        assert [one["id"] for one in listed] == [clip]
        page.reload()
        page.get_by_role("heading", name="Nothing waits").wait_for()


def test_emptying_the_trash_names_all_that_goes(browser: Browser, served: tuple[str, Services]) -> None:
    """A search hides some of it; what is deleted is all of it."""
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell")]
    asked: list[str] = []
    with page_of(browser) as page:
        page.request.post(f"{url}/v1/studio/clips/trash", data={"ids": clips})
        show_a_picture(page)
        page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
        page.goto(f"{url}/studio#/library")
        page.get_by_role("button", name="Trash").click()
        page.get_by_role("searchbox", name="Search clips").fill("mallet")
        page.get_by_role("status").get_by_text("1 clip", exact=True).wait_for()
        page.get_by_role("button", name="Empty the trash").click()
        page.get_by_text("2 clips deleted for ever.").wait_for()
        assert asked == [
            "Delete 2 clips for ever, all that the trash holds and not only the 1 shown? This cannot be undone."
        ]


def test_a_film_that_is_refused_takes_no_other_with_it(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    film = b"\0\0\0\x18ftypisom"
    sent: list[bytes] = []

    def take(route: Route) -> None:
        sent.append(route.request.post_data_buffer or b"")
        route.fulfill(json={"data": [{}], "known": [], "refused": []})

    with page_of(browser) as page:
        info = page.request.get(f"{url}/v1/studio/info").json()
        info["limits"]["max_upload_bytes"] = 1000
        page.route("**/v1/studio/info", lambda route: route.fulfill(json=info))
        page.route("**/v1/studio/imports", take)
        page.goto(f"{url}/studio#/library")
        files = {"one.mp4": film, "huge.mp4": film + bytes(2000), "text.mp4": b"words", "two.mp4": film}
        given = [{"name": name, "mimeType": "video/mp4", "buffer": content} for name, content in files.items()]
        page.get_by_label("Films to import").set_input_files(given)
        page.get_by_role("button", name="2 not imported").click()
        report = page.get_by_role("dialog", name="2 of 4 files could not be imported")
        report.get_by_text("huge.mp4 has 2 kB; at most 1 kB can be sent.").wait_for()
        report.get_by_text("text.mp4 is not a film that can be read. Use an MP4, MOV,").wait_for()
        page.get_by_text("2 clips imported.").wait_for()
        assert [b"one.mp4" in body for body in sent] == [True, False]
        assert all(len(body) < 1000 for body in sent)


def test_compared_clips_are_there_when_one_comes_back(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell")]
    with page_of(browser) as page:
        show_a_picture(page)
        page.goto(f"{url}/studio#/compare/{','.join(clips)}")
        page.get_by_role("button", name="Take A bell").wait_for()
        page.keyboard.press("1")
        page.get_by_label("What is seen and heard").wait_for()
        page.get_by_role("link", name="Compare").click()
        page.get_by_role("button", name="Take A bell").click()
        page.get_by_role("button", name="Take A bell").wait_for(state="detached")
        page.get_by_role("button", name="Take A mallet").click()
        page.get_by_role("heading", name="Nothing to compare yet").wait_for()
        assert page.url.endswith("#/compare")


def test_search_and_shelf_of_the_library_are_in_the_address(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, f"A {thing} is played.") for thing in ("mallet", "bell")]
    with page_of(browser) as page:
        show_a_picture(page)
        page.request.post(f"{url}/v1/studio/clips/change", data={"ids": clips, "folder": "Scene & one"})
        page.goto(f"{url}/studio#/make")
        page.get_by_role("link", name="Library").click()
        facts = page.locator("article .below p").nth(1)
        facts.get_by_text("nano").wait_for()
        assert facts.evaluate("line => line.clientHeight < 30"), "one line of a card, under two of words"
        page.get_by_role("button", name="Scene & one").click()
        page.get_by_role("searchbox", name="Search clips").press_sequentially("mallet")
        one = page.get_by_role("status").get_by_text("1 clip", exact=True)
        one.wait_for()
        page.reload()
        one.wait_for()
        page.get_by_role("heading", name="Scene & one").wait_for()
        assert page.get_by_role("searchbox", name="Search clips").input_value() == "mallet"
        page.get_by_role("link", name="Make").click()
        page.get_by_role("link", name="Library").click()
        one.wait_for()
        page.go_back()
        page.go_back()
        one.wait_for()
        page.go_back()
        page.get_by_role("status").get_by_text("2 clips", exact=True).wait_for()
        page.get_by_role("heading", name="Scene & one").wait_for()
        page.go_back()
        page.get_by_role("heading", name="Library").wait_for()
        page.go_forward()
        page.get_by_role("heading", name="Scene & one").wait_for()


def test_a_reload_keeps_the_given_files_and_each_tab_its_own_form(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, services = served
    with page_of(browser) as page:
        other = page.context.new_page()
        for one in (page, other):
            answer_without_planner(one)
        page.add_init_script(COUNT_WHAT_IS_KEPT)
        page.goto(f"{url}/studio")
        given = {"name": "red.png", "mimeType": "image/png", "buffer": PNG}
        page.get_by_role("group", name="First frame").locator("input[type=file]").set_input_files(given)
        page.get_by_alt_text("First frame: red.png").wait_for()
        words = page.get_by_label("What is seen and heard")
        kept = page.evaluate("kept")
        words.press_sequentially("A red ball bounces.")
        assert page.evaluate("kept") == kept > 0, "a given film is not written anew with every letter"
        other.goto(f"{url}/studio")
        other.get_by_alt_text("First frame: red.png").wait_for()
        assert other.get_by_label("What is seen and heard").input_value() == "A red ball bounces."
        other.get_by_label("What is seen and heard").fill("A bell rings.")
        other.get_by_role("button", name="Remove first frame").click()
        page.reload()
        page.get_by_alt_text("First frame: red.png").wait_for()
        assert words.input_value() == "A red ball bounces."
        page.get_by_role("button", name="Make clip").click()
        page.get_by_role("article", name="Waiting: A red ball bounces.").wait_for()
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert b"".join(services.store.read(job.request.inputs["image"], 0, 10**6)) == PNG
        other.reload()
        assert other.get_by_label("What is seen and heard").input_value() == "A bell rings."
        assert other.get_by_alt_text("First frame: red.png").count() == 0


def test_a_duplicated_tab_goes_its_own_way(browser: Browser, served: tuple[str, Services]) -> None:
    """It begins with the form of the other, whose name for its files it has been given as well."""
    url, _ = served
    given = {"name": "red.png", "mimeType": "image/png", "buffer": PNG}
    with page_of(browser) as page:
        page.context.route("**/v1/studio/plan", lambda route: route.fulfill(json=NO_PLAN))
        page.goto(f"{url}/studio")
        page.get_by_role("group", name="First frame").locator("input[type=file]").set_input_files(given)
        page.get_by_alt_text("First frame: red.png").wait_for()
        page.get_by_label("What is seen and heard").fill("A red ball bounces.")
        with page.expect_popup() as opened:
            page.evaluate("window.open(location.href)")
        other = opened.value
        other.get_by_alt_text("First frame: red.png").wait_for()
        assert other.get_by_label("What is seen and heard").input_value() == "A red ball bounces."
        other.get_by_role("button", name="Remove first frame").click()
        other.get_by_alt_text("First frame: red.png").wait_for(state="detached")
        for one, pictures in ((page, 1), (other, 0)):
            one.reload()
            one.get_by_label("What is seen and heard").wait_for()
            one.wait_for_function("async () => (await navigator.locks.query()).held.length === 2")
            assert one.get_by_alt_text("First frame: red.png").count() == pictures


def test_a_continuation_adds_the_seconds_that_are_asked_for(browser: Browser, served: tuple[str, Services]) -> None:
    """The request counts the frames that both clips share; and what is too short to be made is said in the page's words."""
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    sent: list[float] = []

    def take(route: Route) -> None:
        sent.append(route.request.post_data_json["seconds"])
        route.fulfill(json={"id": "video_0"})

    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/videos/extensions", take)
        answer_without_film(page)
        page.goto(f"{url}/studio#/clip/{clip}")
        page.get_by_text("Continue", exact=True).click()
        assert page.title() == "A bell is played. · Phonofilm Studio"
        field = page.get_by_label("Seconds to add")
        field.fill("0.01")
        page.get_by_text("Give a number from 0.17 to 59.").wait_for()
        assert page.get_by_role("button", name="Continue the clip").is_disabled()
        field.fill("3")
        page.get_by_role("button", name="Continue the clip").click()
        page.get_by_text("Added to the queue.").wait_for()
        assert sent == [pytest.approx(3 + OVERLAP_FRAMES / 24, abs=1e-3)]


def test_a_number_that_cannot_be_is_refused_in_its_field(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    with page_of(browser) as page:
        answer_without_planner(page)
        page.goto(f"{url}/studio")
        page.get_by_label("What is seen and heard").fill("A red ball bounces.")
        field = page.get_by_label("Clips", exact=True)
        for wrong in ("0", "-3", "1.5"):
            field.fill(wrong)
            page.get_by_text("Give a whole number from 1 to 8.").wait_for()
            page.get_by_role("button", name="Make").last.click()
            page.locator("input[aria-invalid=true]:focus").wait_for()
        field.fill("2")
        page.get_by_role("button", name="Make 2 clips").click()
        page.get_by_role("article", name="Waiting: A red ball bounces.").wait_for()
        (job,) = waiting(services.database, OPEN_ACCESS)
        assert len(job.request.seeds) == 2


def test_a_queue_counts_clips_and_its_time_left_falls(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    with page_of(browser) as page:
        for text, count in (("A red ball bounces.", 3), ("A bell rings.", 1)):
            page.request.post(f"{url}/v1/videos", data={"prompt": text, "model": "nano", "n": count})
        one, other = page.request.get(f"{url}/v1/studio/jobs").json()["waiting"]
        running = one | {"status": "in_progress", "step": 1, "steps": 9, "eta_seconds": 30}
        waits = {"running": [], "waiting": [one, other], "ended": []}
        events: list[tuple[str, Any]] = [("jobs", waits)]

        def tell(route: Route) -> None:
            body = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)
            route.fulfill(content_type="text/event-stream", body="retry: 10\n\n" + body)

        page.route("**/v1/studio/events", tell)
        page.goto(f"{url}/studio#/queue")
        page.get_by_role("heading", name="4 clips waiting").wait_for()
        page.get_by_text("Starting a worker").wait_for()
        assert (
            page.get_by_role("button", name="Later: A bell rings.").get_attribute("title")
            == "It is the last one already"
        )
        imported = other | {"status": "failed", "prompt": "", "imported": True}
        show_a_worker(page, url)
        events[:] = [
            ("workers", {"workers": [WORKS]}),
            ("jobs", {"running": [running], "waiting": [], "ended": [imported]}),
            ("job", running | {"eta_seconds": 34}),
        ]
        page.get_by_text("Making 3 clips").wait_for()
        page.get_by_role("main").get_by_text("30 s left").wait_for()
        page.get_by_text("A film that was imported").wait_for()
        events[:] = [("job", running | {"eta_seconds": 60})]
        page.get_by_role("main").get_by_text("60 s left").wait_for()
        page.unroute_all(behavior="ignoreErrors")


def test_a_picture_that_is_far_too_large_is_refused_unopened(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    most = f"at most {MAX_IMAGE_PIXELS // 10**6} million are read"
    with page_of(browser, width=390, height=760) as page:
        answer_without_planner(page)
        page.goto(f"{url}/studio")
        field = page.get_by_role("group", name="First frame").locator("input[type=file]")
        for kind, size in (("PNG", (12000, 12000)), ("JPEG", (9000, 8000))):
            content = io.BytesIO()
            Image.new("L", size).save(content, kind)
            name = f"huge.{kind.lower()}"
            field.set_input_files({"name": name, "mimeType": f"image/{kind.lower()}", "buffer": content.getvalue()})
            page.get_by_text(f"{name} has {size[0]} × {size[1]} pixels, and {most}. Use a smaller one.").wait_for()
        notice = page.locator(".notice").last.bounding_box()
        button = page.get_by_role("button", name="Make clip").bounding_box()
        assert notice is not None
        assert button is not None
        assert notice["y"] + notice["height"] <= button["y"], "the message does not cover what is pressed next"


def test_a_blind_comparison_of_variations_begins_with_settings(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clips = [finished_clip(services, "A bell is played.") for _ in range(2)]
    with page_of(browser) as page:
        show_a_picture(page)
        page.goto(f"{url}/studio#/compare/{','.join(clips)}")
        page.get_by_role("button", name="Take A bell").first.wait_for()
        page.get_by_role("link", name="Blind comparison").click()
        page.get_by_role("heading", name="Blind comparison").wait_for()
        assert page.get_by_label("Compare", exact=True).input_value() == "settings"


def test_no_word_of_the_library_is_cut_on_a_phone(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    with page_of(browser, width=390, height=800) as page:
        show_a_picture(page)
        page.route("**/v1/studio/clips?*", lambda route: route.fulfill(json=aged(route.fetch().json(), clip)))
        page.goto(f"{url}/studio#/library")
        page.get_by_text("17 min ago").wait_for()
        cut = "one => one.scrollWidth > one.clientWidth"
        assert not page.locator(".about").first.evaluate(cut)


def aged(listing: dict[str, Any], clip: str) -> dict[str, Any]:
    """The listing with the clip made 17 minutes ago."""
    data = [
        one | {"created_at": one["created_at"] - 1030, "seconds": 2.04} for one in listing["data"] if one["id"] == clip
    ]
    return listing | {"data": data}


def test_words_that_others_replace_come_back(browser: Browser, served: tuple[str, Services]) -> None:
    url, services = served
    clip = finished_clip(services, "A bell is played.")
    with page_of(browser) as page:
        answer_without_planner(page)
        page.route("**/v1/studio/vocabulary*", lambda route: route.fulfill(json=NO_WORDS | {"prompts": ["A lamp."]}))
        answer_without_film(page)
        page.goto(f"{url}/studio")
        words = page.get_by_label("What is seen and heard")
        words.fill("My own words.")
        page.get_by_role("button", name="A lamp.").click()
        assert words.input_value() == "A lamp."
        page.get_by_role("button", name="Undo").click()
        assert words.input_value() == "My own words."
        page.goto(f"{url}/studio#/clip/{clip}")
        page.get_by_role("button", name="Use these settings").click()
        page.get_by_text("The form has the settings of this clip.").wait_for()
        assert words.input_value() == "A bell is played."
        page.get_by_role("button", name="Undo").click()
        assert words.input_value() == "My own words."
