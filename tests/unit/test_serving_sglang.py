"""SGLang as the engine: jobs are sent to its server, watched and fetched; what it cannot do is refused when it is submitted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.media_makers import flash_and_beep
from tests.unit.http_stub import StubHandler, listening
from tests.unit.serving_helpers import PNG, client_of, services_in
from tests.unit.sglang_stub import SglangStub, serving_sglang

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.media import Clip, save_clip
from phonofilm.serving.api.services import Services
from phonofilm.serving.client import ServerClient, ServerError
from phonofilm.serving.engines.engine_settings import EngineSettings, engine_settings
from phonofilm.serving.engines.sglang_limits import facts_of
from phonofilm.serving.engines.sglang_maker import FAULTS, SglangMaker
from phonofilm.serving.jobs.roster import READY, WorkerReport, report_worker, write_setting
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.worker.failures import failure_of
from phonofilm.serving.worker.loop import Worker

FIRST_FRAME = {"input_reference": ("a.png", PNG, "image/png")}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A clip with sound, and one whose sound is missing."""
    folder, clip = tmp_path_factory.mktemp("films"), flash_and_beep(side=64)
    save_clip(clip, folder / "sound.mp4")
    save_clip(Clip(clip.frames, clip.frame_rate), folder / "silent.mp4")
    return (folder / "sound.mp4").read_bytes(), (folder / "silent.mp4").read_bytes()


@pytest.fixture
def stub(films: tuple[bytes, bytes]) -> Iterator[SglangStub]:
    with serving_sglang(SglangStub(films[0])) as stub:
        yield stub


@pytest.fixture
def services(stub: SglangStub, tmp_path: Path) -> Services:
    services = services_in(tmp_path)
    services.worker = WorkerSettings(
        models={"360p": "360p"},
        database_url=services.worker.database_url,
        store=services.worker.store,
        engine=EngineSettings("sglang", stub.url),
    )
    write_setting(services.database, "facts:360p", facts_of("360p"))
    return services


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services)


@pytest.fixture
def working(services: Services) -> Iterator[None]:
    """Jobs are sent while the test runs."""
    worker = Worker(services.worker, SglangMaker(services.worker, poll=0.01))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    while worker.is_starting:
        time.sleep(0.01)
    yield
    worker.ask_to_stop()
    thread.join()


def submitted(client: TestClient, **fields: Any) -> str:
    answer = client.post("/v1/videos", data={"prompt": "a man speaks", **fields}, files=FIRST_FRAME)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def finished(client: TestClient, video_id: str) -> dict[str, Any]:
    lines = client.get(f"/v1/videos/{video_id}/events").text.splitlines()
    return dict(json.loads([line for line in lines if line.startswith("data: ")][-1][6:]))


@pytest.mark.usefixtures("working")
def test_a_job_is_made_by_sglang_and_its_file_is_ours(
    client: TestClient, stub: SglangStub, films: tuple[bytes, bytes]
) -> None:
    options = {"seconds": "4", "num_inference_steps": "25", "guidance_scale": "4.5", "negative_prompt": "grey"}
    job = finished(client, submitted(client, seed="7", n="2", **options))
    assert (job["status"], job["size"], job["seeds"]) == ("completed", "64x64", [7, 8])
    assert job["peak_memory_mb"] == 1234.5
    assert (job["step"], job["steps"], job["progress"]) == (50, 50, 100), "steps of both clips, all of them made"
    expected = {
        "prompt": "a man speaks", "size": "640x352", "num_frames": "97", "fps": "24", "num_inference_steps": "25",
        "guidance_scale": "4.5", "negative_prompt": "grey", "input_reference": PNG[:8].decode("latin-1"),
    }  # fmt: skip
    assert stub.created == [{**expected, "seed": "7"}, {**expected, "seed": "8"}]
    assert stub.deleted == ["request-1", "request-2"], "what was fetched is not kept twice"
    assert client.get(f"/v1/videos/{job['id']}/content?index=1").content == films[0]
    assert client.get(f"/v1/videos/{job['id']}/content?variant=thumbnail").status_code == 200


@pytest.mark.usefixtures("working")
def test_without_options_the_clip_has_movas_length_and_not_sglangs_four_seconds(
    client: TestClient, stub: SglangStub
) -> None:
    assert finished(client, submitted(client))["status"] == "completed"
    assert stub.created[0]["num_frames"] == "193"
    assert stub.created[0]["seed"].isdecimal()


@pytest.mark.usefixtures("working")
def test_a_server_that_is_away_or_was_restarted_costs_no_job(client: TestClient, stub: SglangStub) -> None:
    stub.away, stub.forget = 3, 2
    assert finished(client, submitted(client))["status"] == "completed"
    assert len(stub.created) == 3


@pytest.mark.usefixtures("working")
def test_sglangs_reason_is_passed_on_and_a_silent_clip_is_a_failure(
    client: TestClient, stub: SglangStub, films: tuple[bytes, bytes]
) -> None:
    stub.failure = "CUDA out of memory"
    failed = finished(client, submitted(client))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "generation_failed")
    assert "CUDA out of memory" in failed["error"]["message"]
    stub.failure, stub.film = None, films[1]
    silent = finished(client, submitted(client))
    assert "without its sound" in silent["error"]["message"]
    stub.film = b"\0\0\0\x18ftypisom and no more"
    broken = finished(client, submitted(client))
    assert "SGLang made cannot be read" in broken["error"]["message"]
    assert [job["error"]["code"] for job in (silent, broken)] == ["generation_failed"] * 2, "not the client's doing"


@pytest.mark.usefixtures("working")
def test_a_steady_fault_of_sglang_is_asked_a_few_times_and_fails_the_job(client: TestClient, stub: SglangStub) -> None:
    before, stub.broken = stub.asked, 10**9
    job = finished(client, submitted(client))
    assert stub.asked - before == FAULTS
    assert job["error"] == {
        "code": "generation_failed",
        "message": f"the SGLang server failed with status 500 {FAULTS} times: the scheduler died",
    }
    stub.broken = FAULTS - 1
    assert finished(client, submitted(client))["status"] == "completed"


@pytest.mark.usefixtures("working")
def test_what_sglang_refuses_after_all_is_not_the_clients_doing(
    client: TestClient, stub: SglangStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "create", lambda form: (400, {"detail": "no room for this size"}))
    error = finished(client, submitted(client))["error"]
    assert error == {
        "code": "generation_failed",
        "message": "the SGLang server refused it: no room for this size",
    }


@pytest.mark.usefixtures("working")
def test_a_redirect_of_sglang_is_not_followed(
    client: TestClient, stub: SglangStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {"Location": f"{stub.url}/v1/videos/elsewhere"}
    monkeypatch.setattr(stub, "create", lambda form: (307, {"detail": "moved"}, moved))
    before = stub.asked
    error = finished(client, submitted(client))["error"]
    assert stub.asked == before + 1, "the frame and the prompt went to no other address"
    assert error == {
        "code": "generation_failed",
        "message": "the SGLang server sends elsewhere, which is not followed",
    }


@pytest.mark.usefixtures("working")
def test_a_figure_that_sglang_has_not_measured_is_left_out(client: TestClient, stub: SglangStub) -> None:
    stub.memory = 0.0
    job = finished(client, submitted(client))
    assert (job["status"], job["peak_memory_mb"]) == ("completed", None)


def test_a_clip_that_is_cut_off_is_the_servers_fault(tmp_path: Path) -> None:
    class Cuts(StubHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"some")

    with listening(Cuts) as url, pytest.raises(ServerError) as error:
        ServerClient(url, tries=1).fetch("video_1", tmp_path / "a.mp4")
    assert failure_of(error.value)[0] == "generation_failed"


def test_health_says_that_the_engine_is_away(
    client: TestClient, services: Services, stub: SglangStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phonofilm.serving.worker.loop.REPORT_SECONDS", 0.01)
    worker = Worker(services.worker, SglangMaker(services.worker, poll=0.01))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()

    def until(status: str) -> tuple[int, dict[str, Any]]:
        while (answer := client.get("/health")).json()["status"] != status:
            time.sleep(0.01)
        return answer.status_code, answer.json()

    assert until("ok") == (200, {"status": "ok", "workers": 1, "reason": None})
    stub.away = 10**9
    reason = "the engine's server does not answer 1 of 1 workers; jobs wait for it"
    assert until("degraded") == (503, {"status": "degraded", "workers": 0, "reason": reason})
    assert client.get("/liveness").status_code == 200
    report_worker(services.database, WorkerReport("another", READY, ["360p"], 0.0))
    assert until("degraded")[0] == 200, "one makes clips"
    stub.away = 0
    assert until("ok")[0] == 200
    worker.ask_to_stop()
    thread.join()


@pytest.mark.usefixtures("working")
def test_a_cancelled_job_is_taken_from_sglang_too(client: TestClient, stub: SglangStub) -> None:
    stub.polls = 10**9
    video_id = submitted(client)
    assert stub.polled.wait(30)
    client.post(f"/v1/videos/{video_id}/cancel")
    assert finished(client, video_id)["status"] == "cancelled"
    assert stub.deleted == ["request-1"]


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"modality_scale": "2"}, "modality_scale", "no guidance between"),
        ({"audio_guidance_scale": "2"}, "audio_guidance_scale", "one guidance_scale"),
        ({"guidance_interval": "0:0.5"}, "guidance_interval", "all steps"),
        ({"solver": "unipc"}, "solver", "one solver"),
        ({"cache": "easy:0.1"}, "cache", "no steps are skipped"),
        ({"flow_shift": "3"}, None, "fixed"),
        ({"image_fit": "letterbox"}, "image_fit", "cropped"),
        ({"size": "480x480"}, "size", "640x352 and 352x640"),
        ({"fps": "23.976"}, "fps", "whole frame rates"),
        ({"seconds": "20"}, "seconds", "at most 193"),
    ],
)
def test_what_sglang_cannot_do_is_refused_with_the_reason(
    client: TestClient, fields: dict[str, str], param: str | None, reason: str
) -> None:
    answer = client.post("/v1/videos", data={"prompt": "a man", **fields}, files=FIRST_FRAME)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert reason in error["message"]
    assert "SGLang" in error["message"]
    assert param is None or error["param"] == param


def test_text_alone_last_frames_and_retakes_are_refused(client: TestClient) -> None:
    alone = client.post("/v1/videos", json={"prompt": "a man"}).json()["error"]
    assert (alone["param"], "without a first frame" in alone["message"]) == ("input_reference", True)
    last = {**FIRST_FRAME, "last_frame": ("b.png", PNG, "image/png")}
    assert "not held" in client.post("/v1/videos", data={"prompt": "a"}, files=last).json()["error"]["message"]
    film = {"video": ("a.mp4", b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "video/mp4")}
    retake = client.post("/v1/videos/edits", data={"prompt": "a", "start": "0", "end": "1"}, files=film)
    assert "SGLang" in retake.json()["error"]["message"]
    timed = client.post("/v1/videos", data={"prompt": "0-2: a; 2-4: b"}, files=FIRST_FRAME).json()["error"]
    assert "film in parts" in timed["message"]


def test_a_server_of_another_model_is_refused_at_the_start(services: Services, stub: SglangStub) -> None:
    stub.model = "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
    stub.card = lambda: {"data": [{"id": stub.model}]}  # type: ignore[method-assign]
    with pytest.raises(PhonofilmError, match="is not MOVA"):
        SglangMaker(services.worker).open()


def test_the_engine_is_named_with_its_address_and_one_released_model() -> None:
    url = "http://127.0.0.1:30000"
    assert engine_settings(None, None, ["nano"]) is None
    assert engine_settings("sglang", url + "/", ["720p"]) == EngineSettings("sglang", url)
    for kind, address, models, message in (
        ("vllm", url, ["360p"], "use phonofilm or sglang"),
        ("sglang", None, ["360p"], "--engine-url http://127.0.0.1:30000"),
        ("sglang", "here", ["360p"], "no address"),
        ("sglang", url, ["nano"], "--model 360p or --model 720p"),
        (None, url, ["nano"], "add --engine sglang"),
    ):
        with pytest.raises(InputError, match=message):
            engine_settings(kind, address, models)
    settings = WorkerSettings({"360p": "360p"}, engine=EngineSettings("sglang", url))
    assert WorkerSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
