"""Trainings on the studio's page, as a server's answers describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.browser import page_of

from phonofilm.serving.api.services import Services
from phonofilm.serving.studio.run_folders import RunFolder, validated_on
from phonofilm.training.config.config_files import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

RUN: dict[str, Any] = {
    "id": "run_0", "name": "owl", "folder": "runs", "state": "stopped", "step": 20, "steps": 20, "seconds": 9.0,
    "eta_seconds": None, "updated_at": 1767225600.0, "metrics": [], "checkpoints": [20],
    "lora": "../runs/owl/lora.safetensors", "validated_on": None, "can_stop": False,
}  # fmt: skip
CURVES = ["loss/video", "update/rate", "loss/low/audio/0.25-0.50", "loss/high/video/step-2/audio-held"]
SAMPLES = [{"step": step, "name": "one", "prompt": "", "video_url": "/none", "sheet_url": "/none"} for step in (10, 20)]


def show(page: Page, url: str, run: dict[str, Any], command: str = "phonofilm studio", **details: Any) -> None:
    """Open the part with this one run."""
    info = page.request.get(f"{url}/v1/studio/info").json()
    info["features"]["runs"], info["command"] = bool(run), command
    page.route("**/v1/studio/info", lambda route: route.fulfill(json=info))
    page.route("**/v1/studio/runs", lambda route: route.fulfill(json={"data": [run]}))
    answer = {"run": run, "curves": [], "samples": []} | details
    page.route("**/v1/studio/runs/run_0", lambda route: route.fulfill(json=answer))
    page.route("**/none", lambda route: route.fulfill(content_type="video/mp4", body=b""))
    page.goto(f"{url}/studio#/training")


@pytest.mark.parametrize("command", ["phonofilm studio", "phonofilm serve"])
def test_the_advice_names_what_the_person_runs(browser: Browser, served: tuple[str, Services], command: str) -> None:
    url, _ = served
    with page_of(browser) as page:
        show(page, url, RUN, command)
        page.get_by_text(f"{command} --lora owl=../runs/owl/lora.safetensors").wait_for()
        page.unroute_all(behavior="ignoreErrors")
        page.goto("about:blank")
        show(page, url, {}, command)
        page.get_by_text(f"{command} --runs runs").wait_for()


def test_a_training_that_prepares_says_so(browser: Browser, served: tuple[str, Services]) -> None:
    url, _ = served
    prepares = RUN | {"state": "running", "step": None, "checkpoints": [], "lora": None, "can_stop": True}
    with page_of(browser) as page:
        show(page, url, prepares)
        page.get_by_role("status").get_by_text("It prepares: the model is loaded, and clips are read.").wait_for()
        page.get_by_role("link", name="owl preparing").wait_for()


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        ("other", "Error in the picture, on clips it does not learn from"),
        ("training", "Error in the picture, on clips it learns from"),
        (None, "Error in the picture, in validation"),
    ],
)
def test_validation_is_named_by_the_clips_that_it_is_of(
    browser: Browser, served: tuple[str, Services], clips: str | None, words: str
) -> None:
    url, _ = served
    curve = {"name": "val/video", "modality": "video", "points": [[10, 1.0, 0.5]]}
    with page_of(browser) as page:
        show(page, url, RUN | {"validated_on": clips}, curves=[curve])
        page.get_by_text(words, exact=True).wait_for()
        page.get_by_text("One value so far, at step 10. The curve begins with the second.").wait_for()


@pytest.mark.parametrize(("sets", "found"), [([], "training"), (["held-out"], "other"), (None, None)])
def test_a_run_says_which_clips_it_validates_on(tmp_path: Path, sets: list[str] | None, found: str | None) -> None:
    section = {"clips": 16, "every": 200} | ({} if sets is None else {"sets": sets})
    write_config({"data": {"sets": ["clips"]}, "max_steps": 20, "validation": section}, tmp_path / "config.yaml")
    assert validated_on(RunFolder("run_0", tmp_path, tmp_path)) == found


def test_curves_have_names_in_words_and_one_sample_is_heard_at_a_time(
    browser: Browser, served: tuple[str, Services]
) -> None:
    url, _ = served
    curves = [{"name": name, "modality": None, "points": [[1, 1.0, 0.5], [2, 2.0, 0.25]]} for name in CURVES]
    with page_of(browser) as page:
        show(page, url, RUN, curves=curves, samples=SAMPLES)
        page.get_by_text("Losses by expert and noise").click()
        for words in (
            "Error in the picture (loss)",
            "Learning rate, as a share of the full one",
            "Error, clear half, sound, 25 to 50 % noise",
            "Error, noisy half, picture, step 2, sound given",
        ):
            page.get_by_text(words, exact=True).wait_for()
        page.locator("video").nth(1).wait_for()
        paused = page.evaluate(
            """() => {
                const [first, second] = document.querySelectorAll("video");
                let paused = false;
                first.pause = () => (paused = true);
                second.dispatchEvent(new Event("play"));
                return paused;
            }"""
        )
        assert paused
