"""Clips brought into the studio's library, blind comparison of clips, and training runs, over HTTP."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from tests.unit.serving_helpers import PNG, client_of, services_in

from phonofilm.media import Clip, save_clip
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import NewJob, Room, enter
from phonofilm.serving.jobs.roster import write_setting
from phonofilm.serving.library.comparing import field_of, votes_of
from phonofilm.serving.library.differing import differing_settings
from phonofilm.serving.security.access import OPEN_ACCESS, READ, WRITE, Access
from phonofilm.serving.side_process import InThisProcess
from phonofilm.training.checkpointing.run_lock import LOCK

SETTINGS = {
    "prompt": "A red ball bounces.", "seed": 11, "model": "nano", "steps": 4, "guidance_scale": 2.0, "size": "32x32",
    "num_frames": 5, "fps": "24", "fingerprint": "x", "dtype": "float32",
    "inputs": [{"option": "image", "path": "first.png", "sha256": "0"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    folder = tmp_path_factory.mktemp("studio")
    made = folder / "made"
    (made / "day 1").mkdir(parents=True)
    write_clip(made / "day 1" / "ball.mp4", SETTINGS)
    (made / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(200))
    (made / "outside.mp4").symlink_to("/etc/hostname")
    services = services_in(folder)
    services.media = services.planner = InThisProcess()
    services.api = replace(services.api, imports=(made,), runs=(folder / "runs",))
    return services


@pytest.fixture(scope="module")
def client(services: Services) -> TestClient:
    return client_of(services)


def write_clip(path: Path, settings: dict[str, Any]) -> None:
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    frames[2:] = 200
    sound = (0.1 * np.sin(np.arange(10_000) / 10)).astype(np.float32)[None]
    save_clip(Clip(frames, 24, sound, 48_000, settings), path)  # type: ignore[arg-type]


def bring_in(client: TestClient, path: Path, name: str = "C:\\films\\a ball.mp4") -> dict[str, Any]:
    answer = client.post("/v1/studio/imports", files=[("file", (name, path.read_bytes()))])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_files_of_named_folders_come_in_with_their_settings(client: TestClient, services: Services) -> None:
    (folder,) = client.get("/v1/studio/imports").json()["folders"]
    files = {one["name"]: one for one in folder["files"]}
    assert (folder["name"], sorted(files)) == ("made", ["broken.mp4", "day 1/ball.mp4"])
    ids = [files["day 1/ball.mp4"]["id"], files["broken.mp4"]["id"], "0" * 24]
    report = client.post("/v1/studio/imports/folder", json={"ids": ids}).json()
    (clip,) = report["data"]
    assert (clip["prompt"], clip["seed"], clip["model"], clip["imported"]) == ("A red ball bounces.", 11, "nano", True)
    assert (clip["size"], clip["num_frames"], clip["steps"]) == ("32x32", 5, 4)
    assert len(report["refused"]) == 2
    assert str(services.api.imports[0]) not in json.dumps(report)
    (folder,) = client.get("/v1/studio/imports").json()["folders"]
    assert [one["imported"] for one in folder["files"]] == [False, True]
    settings = client.get(clip["settings_url"]).json()
    assert settings["request"]["num_inference_steps"] == 4
    assert settings["missing"] == ["the first frame that it was made with"]
    assert client.post(f"/v1/studio/clips/{clip['id']}/variations", json={}).status_code == 409
    for address in (clip["video_url"], clip["thumbnail_url"], clip["frame_url"], clip["sound_url"]):
        assert client.get(address).status_code == 200, address


def test_uploads_come_in_once_and_what_is_no_clip_is_refused(client: TestClient, tmp_path: Path) -> None:
    write_clip(tmp_path / "plain.mp4", {})
    report = bring_in(client, tmp_path / "plain.mp4")
    (clip,) = report["data"]
    assert (clip["title"], clip["prompt"]) == ("a ball", "")
    assert client.get(f"/v1/videos/{clip['job_id']}").json()["seeds"] == [], "nobody knows its seed"
    for path in ("/v1/videos", "/v1/studio/jobs"):
        assert client.get(path).status_code == 200, path
    assert client.get("/v1/studio/jobs").json()["ended"][0]["imported"], "the queue tells it from a clip that was made"
    again = bring_in(client, tmp_path / "plain.mp4")
    assert [one["id"] for one in again["data"]] == [clip["id"]]
    answer = client.post("/v1/studio/imports", files=[("file", ("a.mp4", PNG)), ("file", ("b.mp4", b""))])
    assert [one["name"] for one in answer.json()["refused"]] == ["a.mp4", "b.mp4"]
    assert client.post("/v1/studio/imports", files={"other": PNG}).status_code == 400
    assert client.post("/v1/studio/imports", json={}).status_code == 400


def test_what_is_there_already_is_counted_as_that(client: TestClient, services: Services, tmp_path: Path) -> None:
    """A file that came in by upload, and lies in a named folder too."""
    path = services.api.imports[0] / "later.mp4"
    write_clip(path, {**SETTINGS, "seed": 99})
    first = bring_in(client, path)
    assert first["known"] == []

    def listed() -> dict[str, Any]:
        (folder,) = client.get("/v1/studio/imports").json()["folders"]
        return next(one for one in folder["files"] if one["name"] == "later.mp4")

    ids = [clip["id"] for clip in first["data"]]
    report = client.post("/v1/studio/imports/folder", json={"ids": [listed()["id"]]}).json()
    assert ([clip["id"] for clip in report["data"]], report["known"]) == (ids, ids)
    assert listed()["imported"], "it is not offered as new again"
    path.unlink()


def test_the_models_own_few_steps_are_no_lora_that_is_missing(client: TestClient, tmp_path: Path) -> None:
    """As a clip without options says of itself; used again, its settings would ask for the model without its student."""
    own = {"loras": [{"path": "few-steps", "sha256": "0" * 64, "strength": "1.0"}], "inputs": []}
    used = {**SETTINGS, "guidance_scale": 1.0, "solver": "euler", "cache": "none", "negative_prompt": ""}
    write_clip(tmp_path / "own.mp4", {**used, **own})
    (clip,) = bring_in(client, tmp_path / "own.mp4")["data"]
    settings = client.get(clip["settings_url"]).json()
    assert (settings["missing"], clip["steps"]) == ([], 4)
    assert sorted(settings["request"]) == ["fps", "model", "num_frames", "prompt", "seed", "size"]
    assert client.post(f"/v1/studio/clips/{clip['id']}/variations", json={"count": 1}).status_code == 200
    write_clip(
        tmp_path / "other.mp4", {**used, "loras": [{"path": "grain.safetensors", "strength": "1.0"}], "inputs": []}
    )
    (clip,) = bring_in(client, tmp_path / "other.mp4")["data"]
    assert client.get(clip["settings_url"]).json()["missing"] == ["a LoRA that it was made with"]


def test_two_clips_of_one_prompt_are_compared_blind(client: TestClient, services: Services, tmp_path: Path) -> None:
    other = Access("key_other", frozenset((READ, WRITE)))
    none = client.post("/v1/studio/arena/pairs", json={"by": "tag"})
    assert (none.status_code, none.json()["error"]["code"]) == (409, "no_pairs")
    ids = []
    for number, model in enumerate(("one", "two")):
        write_clip(tmp_path / f"{model}.mp4", {**SETTINGS, "prompt": "A lamp.", "model": model, "seed": number})
        ids.append(bring_in(client, tmp_path / f"{model}.mp4")["data"][0]["id"])
    state = client.get("/v1/studio/arena?by=model").json()
    assert (state["pairs"], state["voted"]) == (1, 0)
    assert {"name": "one", "clips": 1} in state["contestants"]
    by_settings = client.get("/v1/studio/arena?by=settings").json()["contestants"]
    settings = "0.2083 s, fps 24, guidance scale 2, size 32x32, steps 4"
    assert {f"one, {settings}", f"two, {settings}"} <= {one["name"] for one in by_settings}
    write_clip(tmp_path / "part.mp4", {**SETTINGS, "prompt": "A lamp.", "model": "one", "retake": "0:0.1"})
    bring_in(client, tmp_path / "part.mp4")
    assert client.get("/v1/studio/arena?by=settings").json()["contestants"] == by_settings
    pair = client.post("/v1/studio/arena/pairs", json={"by": "model"}).json()
    assert pair["prompt"] == "A lamp."
    clip = client.get(pair["left_url"])
    assert clip.status_code == 200
    assert not any(name in json.dumps([pair, dict(clip.headers)]) for name in (*ids, '"one"', '"two"'))
    for of, status in ((clip.headers["etag"], 206), ('"0-0-video.mp4"', 200)):
        assert client.get(pair["left_url"], headers={"Range": "bytes=0-3", "If-Range": of}).status_code == status
    strange = client.post(f"/v1/studio/arena/pairs/{pair['key']}/vote", json={"answers": {"beauty": "left"}})
    assert strange.status_code == 400
    answers = {"sync": "left", "overall": "tie"}
    shown = client.post(f"/v1/studio/arena/pairs/{pair['key']}/vote", json={"answers": answers}).json()
    assert {shown["left"]["name"], shown["right"]["name"]} == {"one", "two"}
    assert {shown["left"]["clip"]["id"], shown["right"]["clip"]["id"]} == set(ids)
    twice = client.post(f"/v1/studio/arena/pairs/{pair['key']}/vote", json={"answers": answers})
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "already_voted")
    standings = client.get("/v1/studio/arena/standings?question=sync").json()
    assert standings["ratings"][0]["model"] == shown["left"]["name"]
    assert client.get("/v1/studio/arena?by=model").json()["voted"] == 1
    lines = [json.loads(line) for line in client.get("/v1/studio/arena/votes").text.splitlines()]
    assert [(line["question"], line["answer"]) for line in lines] == [("overall", "tie"), ("sync", "left")]
    assert votes_of(services.database, other) == []
    assert len(votes_of(services.database, OPEN_ACCESS, "model")) == 2


def test_contestants_are_named_by_what_differs_and_meet_where_all_else_is_alike(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    defaults = {
        "steps": 4,
        "size": "64x64",
        "num_frames": 49,
        "fps": "24",
        "guidance_scale": 1.0,
        "negative_prompt": "",
    }
    facts = {"num_frames": 49, "fps": "24", "temporal_factor": 4, "defaults": defaults}
    write_setting(services.database, "facts:nano", facts)
    claims = Claims(services.database, "w")

    def made(frames: int, options: dict[str, Any], given: dict[str, str] | None = None) -> None:
        """given: by option, what files hold."""
        inputs = {option: f"{option}.bin" for option in given or {}}
        request = JobRequest({"prompt": "A lamp.", **options}, inputs, hashes=given or {})
        enter(services.database, NewJob(new_job_id(), request, "nano"), OPEN_ACCESS, Room())
        job = claims.claim(["nano"], [], 60)
        assert job is not None
        assert claims.complete(job, [{"video": "x"}], {"seeds": [1], "num_frames": frames}, 10, None)

    made(49, {})
    made(49, {"steps": 4, "fps": "24.0"})
    made(49, {"num_frames": 49, "guidance_scale": 1, "negative_prompt": "", "size": "64x64"})
    made(49, {"steps": 8})
    made(121, {"seconds": 5})
    made(49, {"steps": 12}, {"image": "one picture"})
    made(49, {"steps": 13}, {"image": "another"})
    made(49, {"steps": 14}, {"audio": "one sound"})
    made(49, {"steps": 15}, {"audio": "one sound"})
    made(49, {"steps": 16}, {"audio": "another"})
    made(49, {"steps": 17}, {"video": "one film", "image": "one picture"})
    made(49, {"steps": 18}, {"video": "one film", "image": "one picture"})
    made(49, {"steps": 19}, {"continue_from": "one film"})
    made(49, {"steps": 20}, {"continue_from": "one film"})
    assert differing_settings({"modality_scale": 3.0}, facts) == ["picture and sound together 3"], "as the page says"
    field = field_of(services.database, OPEN_ACCESS, "settings")
    steps = {f"nano, steps {count}": 1 for count in (8, *range(12, 19))}
    assert field.names == {"nano": 3, "nano, 5.042 s": 1, **steps}
    assert sorted(field.meetings) == [
        ("A lamp.", "nano", "nano, steps 8"),
        ("A lamp.", "nano, steps 14", "nano, steps 15"),
        ("A lamp.", "nano, steps 17", "nano, steps 18"),
    ]


def test_a_training_that_prepares_is_there_before_its_first_figures(client: TestClient, services: Services) -> None:
    (root,) = services.api.runs
    run = root / "lora-2"
    run.mkdir(parents=True)
    assert client.get("/v1/studio/runs").json()["data"] == []
    owner = {"pid": os.getpid(), "host": os.uname().nodename, "started": psutil.Process().create_time()}
    (run / LOCK).write_text(json.dumps(owner))
    (found,) = client.get("/v1/studio/runs").json()["data"]
    assert (found["name"], found["state"], found["step"]) == ("lora-2", "running", None)
    assert client.get(f"/v1/studio/runs/{found['id']}").json()["curves"] == []
    shutil.rmtree(run)


def test_a_run_is_followed_and_asked_to_stop(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root,) = services.api.runs
    run = root / "lora-1"
    (run / "samples" / "step-000010").mkdir(parents=True)
    rows = [
        (step, f"{step / 2:.2f}", name, step / 10) for step in (5, 10) for name in ("loss/video", "loss/audio", "lr")
    ]
    lines = ["step,seconds,name,value", *(",".join(map(str, row)) for row in rows)]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    (run / "config.yaml").write_text("loop:\n  max_steps: 20\n")
    (run / "samples" / "step-000010" / "00.mp4").write_bytes(b"clip")
    (run / "samples" / "step-000005").mkdir()
    write_clip(run / "samples" / "step-000005" / "01.mp4", {"prompt": "zyx says hello"})
    (run / "samples" / "step-000010" / "00.png").write_bytes(b"sheet")
    (found,) = client.get("/v1/studio/runs").json()["data"]
    assert (found["state"], found["step"], found["steps"], found["can_stop"]) == ("stopped", 10, 20, False)
    path = f"/v1/studio/runs/{found['id']}"
    assert client.post(f"{path}/stop").json()["error"]["code"] == "not_running"
    owner = {"pid": os.getpid(), "host": os.uname().nodename, "started": psutil.Process().create_time()}
    (run / LOCK).write_text(json.dumps(owner))
    details = client.get(path).json()
    assert (details["run"]["state"], details["run"]["eta_seconds"]) == ("running", 5.0)
    curves = {curve["name"]: curve for curve in details["curves"]}
    assert curves["loss/video"]["points"] == [[5, 2.5, 0.5], [10, 5.0, 1.0]]
    assert [curves[name]["modality"] for name in ("loss/video", "loss/audio", "lr")] == ["video", "audio", None]
    assert client.get(f"{path}?after=5").json()["curves"][0]["points"] == [[10, 5.0, 1.0]]
    sample, other = details["samples"]
    assert (sample["prompt"], other["prompt"]) == ("", "zyx says hello"), "what a file does not say is left out"
    assert details["run"]["lora"] is None
    (run / "lora.safetensors").write_bytes(b"")
    monkeypatch.chdir(root.parent)
    assert client.get(path).json()["run"]["lora"] == "runs/lora-1/lora.safetensors"
    monkeypatch.chdir(run)
    assert client.get(path).json()["run"]["lora"] == "lora.safetensors", "from where the server was started"
    (root / "beside").mkdir()
    monkeypatch.chdir(root / "beside")
    assert client.get(path).json()["run"]["lora"] == "../lora-1/lora.safetensors"
    assert client.get(sample["video_url"]).content == b"clip"
    assert client.get(sample["sheet_url"]).content == b"sheet"
    for name in ("01", "..%2f00", "%2e%2e"):
        assert client.get(f"{path}/samples/10/{name}/video").status_code == 404
    assert client.post(f"{path}/stop").json()["state"] == "stopping"
    assert (run / "stop").exists()
    assert str(root) not in json.dumps(details)
    assert client.get("/v1/studio/runs/run_none").json()["error"]["code"] == "run_not_found"
