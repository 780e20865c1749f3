"""Clients that nobody changed, against a real server: the openai package, curl, a script in SGLang's style, our own command."""

from __future__ import annotations

import base64
import json
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.fake_endpoint import FakeEndpoint, serving
from tests.unit.serving_helpers import PNG, ask, services_in, skip_without
from typer.testing import CliRunner

from phonofilm import read_clip
from phonofilm.cli.main import app
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.media import Clip, load_image, save_clip
from phonofilm.serving.api.app import create_app
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import JobRequest, MadeClips
from phonofilm.serving.jobs.job_queue import edit_job, find
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.settings import RequestLimits, WorkerSettings
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.sessions import SessionMaker
from phonofilm.writing.first_frame_options import FirstFrameOptions
from phonofilm.writing.writing_endpoint import WritingEndpoint

FRAMES = 9


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_nano_pipeline(32, FRAMES).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on a free port of this machine, with a worker in a thread that makes clips with an untrained model."""
    services = services_in(tmp_path_factory.mktemp("serving"))
    services.worker = WorkerSettings(
        models={"tiny": str(tiny)},
        database_url=services.worker.database_url,
        store=services.worker.store,
    )
    worker = Worker(services.worker, SessionMaker(services.worker))
    working = threading.Thread(target=worker.run, daemon=True)
    working.start()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who comes before the server is up, waits
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_config=None, lifespan="off"))
        serving = threading.Thread(target=server.run, args=([listening],), daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        services.closing.set()
        serving.join()
    worker.ask_to_stop()
    working.join()


def test_the_openai_package_makes_extends_remixes_and_deletes(url: str, tmp_path: Path) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    video = client.videos.create_and_poll(
        prompt="A red ball bounces.", input_reference=PNG, extra_body={"seed": 3, "num_inference_steps": 2}
    )
    assert (video.status, video.progress, video.size, video.model) == ("completed", 100, "32x32", "tiny")
    client.videos.download_content(video.id).write_to_file(tmp_path / "a.mp4")
    clip = read_clip(tmp_path / "a.mp4")
    assert (clip.num_frames, clip.width, clip.metadata["seed"], clip.metadata["prompt"]) == (
        FRAMES, 32, 3, "A red ball bounces.",
    )  # fmt: skip
    assert clip.audio is not None
    assert client.videos.download_content(video.id, variant="thumbnail").read()[:4] == b"RIFF"
    longer = client.videos.extend(
        prompt="On.", video=(tmp_path / "a.mp4").open("rb"), seconds="1", extra_body={"overlap_frames": 5}
    )
    again = client.videos.remix(video.id, prompt="A blue ball.")
    assert client.videos.poll(longer.id).status == "completed"
    assert client.videos.poll(again.id).remixed_from_video_id == video.id
    client.videos.download_content(longer.id).write_to_file(tmp_path / "b.mp4")
    assert read_clip(tmp_path / "b.mp4").num_frames > FRAMES
    assert [one.id for one in client.videos.list(limit=2)][:1] == [again.id]
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    with pytest.raises(openai.BadRequestError, match="multiple of 16"):
        client.videos.create(prompt="x", size="33x32")
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_curl_sends_a_form_and_fetches_the_clip(url: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        skip_without("curl is not installed")
    words = ["curl", "-sf", "-F", "prompt=A lamp.", "-F", "num_inference_steps=1", f"{url}/v1/videos"]
    video = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    events = subprocess.run(["curl", "-sfN", f"{url}/v1/videos/{video['id']}/events"], check=True, capture_output=True)
    assert b'"status":"completed"' in events.stdout
    clip = tmp_path / "clip.mp4"
    subprocess.run(["curl", "-sf", "-o", str(clip), f"{url}/v1/videos/{video['id']}/content"], check=True)
    assert read_clip(clip).num_frames == FRAMES


def test_a_script_written_for_sglang_works(url: str, tmp_path: Path) -> None:
    fields = {
        "prompt": "A lamp.", "size": "32x32", "seconds": 1, "fps": 8, "num_frames": FRAMES, "num_inference_steps": 1,
        "guidance_scale": 2.0, "seed": 1, "num_outputs_per_prompt": 2, "output_quality": "default",
    }  # fmt: skip

    def ask(path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return bytes(answer.read())

    job = json.loads(ask("/v1/videos", fields))
    while (job := json.loads(ask(f"/v1/videos/{job['id']}")))["status"] not in ("completed", "failed"):
        time.sleep(0.05)
    assert (job["status"], job["num_outputs"], job["seeds"]) == ("completed", 2, [1, 2])
    (tmp_path / "clip.mp4").write_bytes(ask(f"/v1/videos/{job['id']}/content"))
    assert read_clip(tmp_path / "clip.mp4").frame_rate == 8
    assert job["inference_time_s"] > 0
    assert job["warnings"]


def test_our_own_command_submits_waits_fetches_and_lists(url: str, tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*words, "--server", url])
        assert done.exit_code == code, done.output
        return done.stdout

    clip = tmp_path / "clip.mp4"
    assert run("submit", "A lamp.", "--steps", "1", "-o", str(clip)).split() == [str(clip)]
    assert read_clip(clip).num_frames == FRAMES
    (tmp_path / "prompts.txt").write_text("A ball.\nAn owl.\n")
    ids = run("submit", "--prompts", str(tmp_path / "prompts.txt"), "--steps", "1").split()
    run("wait", *ids)
    fetched = run("fetch", *ids, "-o", str(tmp_path / "clips")).split()
    assert [Path(one).stem for one in fetched] == ids
    assert run("list", "--status", "completed").startswith(f"{ids[1]} completed 100 % An owl.")
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt": "A hen.", "steps": 1}\n{"prompt": "A fox.", "output": "fox.mp4"}\n'
    )
    words = ("--prompts", str(tmp_path / "prompts.jsonl"), "-o", str(tmp_path / "named"))
    once = run("submit", *words, "--steps", "2", "--idempotency-key", "farm").split()
    assert [Path(one).name for one in once] == ["0001.mp4", "fox.mp4"]
    assert [read_clip(Path(one)).metadata["steps"] for one in once] == [1, 2]
    there = len(run("list").splitlines())
    assert run("submit", *words, "--steps", "2", "--idempotency-key", "farm").split() == once
    assert len(run("list").splitlines()) == there, "the same work is not queued twice"
    run("submit", *words, code=2)
    run("submit", "A lamp.", "-o", str(clip), code=2)
    run("fetch", ids[0], "-o", str(clip), code=2)
    assert "completed" in run("status", ids[0])
    assert "completed" in run("cancel", ids[0])  # what has ended stays as it is
    run("submit", "A lamp.", "--size", "33x32", code=1)
    bad = run("submit", "A lamp.", "--image", str(tmp_path / "prompts.txt"), code=1)
    assert bad == ""


def test_previews_are_kept_while_a_clip_is_made_and_not_after(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_in(tmp_path)
    edit_job(services.database, ask(services.database, model="tiny"), JobRequest({"prompt": "A lamp.", "steps": 4}), 0)
    claims = Claims(services.database, "a")
    job = claims.claim(["tiny"], [], 60)
    assert job is not None
    held, written = HeldJob(claims, job, 60), []
    write = held.write
    # The first preview is due at once and the second never, however long a step takes here.
    held._previewed = -math.inf
    monkeypatch.setattr("phonofilm.serving.worker.held_job.PREVIEW_SECONDS", math.inf)

    def record(**progress: object) -> None:
        written.append(progress)
        if "preview" in progress:
            with services.store.as_file(str(progress["preview"])) as file:
                assert load_image(file).size == (32, 32)
        write(**progress)

    monkeypatch.setattr(held, "write", record)
    made = SessionMaker(WorkerSettings(models={"tiny": str(tiny)})).make(job, held, services.store)
    assert sum("preview" in progress for progress in written) == 1
    assert [progress["step"] for progress in written if "step" in progress] == [0, 1, 2, 3, 4]
    assert set(services.store.files("outputs", job.id)) == set(made.outputs[0].values())


def test_a_worker_makes_the_clip_of_the_first_frame_that_it_had_drawn(tiny: Path, tmp_path: Path) -> None:
    services = services_in(tmp_path)
    request = JobRequest({"prompt": "A lamp.", "steps": 1, "size": "64x64"}, seeds=[1], draw_first_frame=True)
    edit_job(services.database, ask(services.database, model="tiny"), request, 0)
    job = Claims(services.database, "a").claim(["tiny"], [], 60)
    assert job is not None
    held = HeldJob(Claims(services.database, "a"), job, 60)
    with serving(FakeEndpoint(answers={"image": {"b64_json": base64.b64encode(PNG).decode()}})) as fake:
        drawing = FirstFrameOptions(fake.url, "painter")
        maker = SessionMaker(WorkerSettings(models={"tiny": str(tiny)}, first_frames=drawing))
        made = maker.make(job, held, services.store)
        assert fake.requests[0]["size"] == "64x64"
        fake.answers["image"] = {"b64_json": "bm90aGluZw=="}
        with pytest.raises(PhonofilmError, match="gave no picture"):
            maker.make(job, held, services.store)
    with services.store.as_file(made.outputs[0]["video"]) as file:
        assert [given["option"] for given in read_clip(file).metadata["inputs"]] == ["image"]
    with pytest.raises(PhonofilmError, match="without a model that draws"):
        SessionMaker(WorkerSettings(models={"tiny": str(tiny)})).make(job, held, services.store)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_worker_has_no_prompt_written_for_a_clip_that_cannot_be_made(
    tiny: Path, tmp_path: Path, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoPipeline:
        @staticmethod
        def from_pretrained(model: str, **options: object) -> None:
            raise OSError("there is no file named model_index.json")

    monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace(AutoPipelineForText2Image=NoPipeline))
    services = services_in(tmp_path)
    asked = {"prompt": "A lamp.", "steps": 1, "size": "64x64" if drawn else "63x64"}
    request = JobRequest(asked, seeds=[1], enhance_prompt=True, draw_first_frame=drawn)
    edit_job(services.database, ask(services.database, model="tiny"), request, 0)
    claims = Claims(services.database, "a")
    job = claims.claim(["tiny"], [], 60)
    assert job is not None
    with serving(FakeEndpoint(answers={"merge": "A red lamp blinks."})) as fake:
        drawing, writing = FirstFrameOptions(str(tmp_path)), WritingEndpoint(fake.url, "writer")
        settings = WorkerSettings(models={"tiny": str(tiny)}, writing=writing, first_frames=drawing)
        with pytest.raises(InputError, match="no text-to-image model" if drawn else "63"):
            SessionMaker(settings).make(job, HeldJob(claims, job, 60), services.store)
        assert fake.requests == []


def test_a_worker_takes_no_clip_beyond_the_operators_limits(tiny: Path, tmp_path: Path) -> None:
    services = services_in(tmp_path)
    file = save_clip(Clip(np.zeros((FRAMES, 32, 32, 3), np.uint8), Fraction(24)), tmp_path / "clip.mp4")
    services.store.put("inputs/x/video.mp4", file)
    request = JobRequest({"prompt": "A lamp.", "steps": 1}, seeds=[1], inputs={"video": "inputs/x/video.mp4"})
    edit_job(services.database, ask(services.database, model="tiny"), request, 0)
    claims = Claims(services.database, "a")
    job = claims.claim(["tiny"], [], 60)
    assert job is not None
    settings = WorkerSettings(models={"tiny": str(tiny)}, limits=RequestLimits(max_seconds=0.3))
    with pytest.raises(InputError, match=r"video is longer than 0\.3 s"):
        SessionMaker(settings).make(job, HeldJob(claims, job, 60), services.store)


def test_a_worker_that_takes_a_job_up_makes_the_clips_that_it_lacks(tiny: Path, tmp_path: Path) -> None:
    services = services_in(tmp_path)
    request = JobRequest({"prompt": "A lamp.", "steps": 1}, seeds=[1, 2], enhance_prompt=True)
    edit_job(services.database, ask(services.database, model="tiny"), request, 0)
    claims = Claims(services.database, "a")
    job = claims.claim(["tiny"], [], 60)
    assert job is not None
    there = MadeClips([{"video": "outputs/x/1-0-video.mp4"}], {"seeds": [1], "prompt": "A red lamp blinks."}, 10)
    claims.publish(job, there, None)
    claims.release(job)
    job = claims.claim(["tiny"], [], 60)
    assert job is not None
    held = HeldJob(claims, job, 60)
    made = SessionMaker(WorkerSettings(models={"tiny": str(tiny)})).make(job, held, services.store)
    assert (made.outputs[:1], made.about["seeds"], made.about["prompt"]) == (
        there.outputs,
        [1, 2],
        "A red lamp blinks.",
    )
    assert {name.rpartition("-")[0] for name in made.outputs[1].values()} == {f"outputs/{job.id}/2-1"}
    with services.store.as_file(made.outputs[1]["video"]) as file:
        assert read_clip(file).metadata["prompt"] == "A red lamp blinks."
    now = find(services.database, job.id, OPEN_ACCESS)
    assert now is not None
    assert (now.step, now.steps) == (2, 2), "progress counts the clip that was there"


def test_a_worker_makes_the_clip_of_the_prompt_that_it_had_written(tiny: Path, tmp_path: Path) -> None:
    services = services_in(tmp_path)
    request = JobRequest({"prompt": "A lamp.", "steps": 1}, seeds=[1], enhance_prompt=True)
    edit_job(services.database, ask(services.database, model="tiny"), request, 0)
    claims = Claims(services.database, "a")
    job = claims.claim(["tiny"], [], 60)
    assert job is not None
    with serving(FakeEndpoint(answers={"merge": "A red lamp blinks and beeps."})) as fake:
        settings = WorkerSettings(models={"tiny": str(tiny)}, writing=WritingEndpoint(fake.url, "writer"))
        made = SessionMaker(settings).make(job, HeldJob(claims, job, 60), services.store)
    assert made.about["prompt"] == "A red lamp blinks and beeps."
    with services.store.as_file(made.outputs[0]["video"]) as file:
        assert read_clip(file).metadata["prompt"] == "A red lamp blinks and beeps."
