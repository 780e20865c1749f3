"""Requests that would hold a worker for minutes: refused by their size, and shown and ended when they are cancelled."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.conftest import GOLDENS
from tests.serving_stub import FACTS, StubMaker
from tests.unit.serving_helpers import client_of, services_in
from typer.testing import CliRunner

from phonofilm.cli.main import app as cli
from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.api.run_sizes import check_run_asked
from phonofilm.serving.api.services import Services
from phonofilm.serving.client_jobs import describe_job
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.roster import write_setting
from phonofilm.serving.most_work import RunSize
from phonofilm.serving.settings import RequestLimits
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.sessions import SessionMaker

BALL = {"prompt": "a ball"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path, lease=0.1)


@pytest.fixture
def client(services: Services) -> TestClient:
    write_setting(services.database, "facts:nano", FACTS)
    return client_of(services)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "1280x720"}, "size"),
        ({"width": 192, "height": 192}, "size"),
        ({"size": "128x128", "num_frames": 101}, "size"),
        ({"num_frames": 401}, "num_frames"),
        ({"seconds": 60, "part_seconds": 30}, "part_seconds"),
        ({"seconds": 2, "size": "176x176", "fps": 48}, "size"),
    ],
)
def test_a_clip_far_beyond_its_model_is_refused(client: TestClient, fields: dict[str, object], param: str) -> None:
    answer = client.post("/v1/videos", json={**BALL, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert "times what the model makes by itself (49 frames of 64x64); at most 8 times" in error["message"]


def test_how_many_steps_and_clips_are_made_is_said_before_more_are_asked_for(client: TestClient) -> None:
    body = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]["content"][
        "application/json"
    ]
    fields = body["schema"]["properties"]
    limits = RequestLimits()
    for name, most in (("num_inference_steps", limits.max_steps), ("n", limits.max_clips)):
        assert f"t most {most}." in fields[name]["description"]
        assert client.post("/v1/videos", json={**BALL, name: most}).status_code == 200
        refused = client.post("/v1/videos", json={**BALL, name: most + 1}).json()["error"]
        assert (refused["param"], f"at most {most}" in refused["message"]) == (name, True)
    assert f"1 to {limits.max_steps}." in CliRunner().invoke(cli, ["submit", "--help"], env={"COLUMNS": "200"}).output
    said = " ".join((GOLDENS.parents[1] / "docs" / "serving.md").read_text().split())
    assert f"more than {limits.max_steps} steps (`generate` takes 1000), {limits.max_clips} clips" in said


@pytest.mark.parametrize(
    "fields", [{"size": "176x176"}, {"num_frames": 389}, {"seconds": 60}, {"seconds": 60, "size": "128x128"}]
)
def test_a_larger_clip_and_a_long_one_in_parts_are_taken(client: TestClient, fields: dict[str, object]) -> None:
    assert client.post("/v1/videos", json={**BALL, **fields}).status_code == 200


def test_the_model_of_360p_makes_720p() -> None:
    facts = {**FACTS, "width": 640, "height": 352, "num_frames": 193}
    for clip in (RunSize(1280, 720, 193), RunSize(1280, 720, 1441)):
        check_run_asked(ClipOptions(prompt="-", seconds=60), clip, Fraction(24), facts)
    with pytest.raises(InputError, match=r"^size: 193 frames of 2048x2048 are 18\.6 times"):
        check_run_asked(ClipOptions(prompt="-"), RunSize(2048, 2048, 193), Fraction(24), facts)


def test_a_worker_refuses_what_came_before_the_models_sizes_were_known(services: Services) -> None:
    client = client_of(services)
    client.post("/v1/videos", json={**BALL, "size": "1280x720"})
    claims = Claims(services.database, "a")
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    maker = SessionMaker(replace(services.worker, hardware=HardwareOptions(device="cpu")))
    with pytest.raises(InputError, match="size: 49 frames of 1280x720 are 225 times"):
        maker.make(job, HeldJob(claims, job, 60), services.store)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_cancelled_job_whose_step_goes_on_says_so_and_its_worker_is_replaced(
    services: Services, client: TestClient, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    stepping, go_on, ended, waits = (threading.Event() for _ in range(4))

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "is to be cancelled; waiting until its step has ended" in record.getMessage():
                waits.set()

    def hold(step: int) -> None:
        stepping.set()
        go_on.wait(600)

    worker = Worker(replace(services.worker, cancel=0.0), StubMaker(after_step=hold))
    worker.end_process = ended.set if replaced else None
    thread = threading.Thread(target=worker.run, daemon=True)
    listening = Waits()
    logging.getLogger("phonofilm").addHandler(listening)
    video = client.post("/v1/videos", json=BALL).json()["id"]
    try:
        with caplog.at_level(logging.INFO, logger="phonofilm"):
            thread.start()
            assert stepping.wait(600)
            line = describe_job(client.post(f"/v1/videos/{video}/cancel").json())
            assert line.startswith(f"{video} cancelling 24 %")
            assert waits.wait(600)
            if replaced:
                assert ended.wait(600), "while its step goes on"
                assert client.get(f"/v1/videos/{video}").json()["status"] == "cancelled"
            else:
                now = client.get(f"/v1/videos/{video}").json()
                assert (now["status"], now["stage"]) == ("in_progress", "cancelling")
    finally:
        logging.getLogger("phonofilm").removeHandler(listening)
        go_on.set()
        worker.ask_to_stop()
        thread.join()
    now = client.get(f"/v1/videos/{video}").json()
    assert (now["status"], now["stage"]) == ("cancelled", None)
