"""The studio's library, queue, plan and timeline over HTTP, on clips that an untrained model made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.serving_helpers import PNG, ask, client_of, services_in

from phonofilm import read_clip
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.session import open_session
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.uploads import MOST_UPLOADS, find_upload, keep_upload
from phonofilm.serving.database.tables import CLIP, JOB
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.jobs.job_queue import QueueFull, cancel_job, find
from phonofilm.serving.jobs.sweep import sweep_files, sweep_jobs
from phonofilm.serving.library.changes import purge_old, trash_clips
from phonofilm.serving.library.clips import find_clips
from phonofilm.serving.security.access import OPEN_ACCESS, READ, WRITE, Access
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.side_process import InThisProcess, SideProcess, SideProcessError
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.store.interface import Store
from phonofilm.serving.studio.agreement import marks_in_words
from phonofilm.serving.studio.events import Watch
from phonofilm.serving.studio.expected import queue_seconds
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.sessions import SessionMaker, model_facts_of

FRAMES = 9
HUNDREDTHS = 0.02  # seconds are rounded to hundredths before they are multiplied and after


@dataclass
class Studio:
    """A server in this process with two clips in its library; both came of one request."""

    services: Services
    client: TestClient
    ids: tuple[str, str]

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listed(self, query: str = "") -> list[str]:
        return [clip["id"] for clip in self.get(f"/v1/studio/clips?{query}")["data"]]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    tiny = tmp_path_factory.mktemp("model") / "tiny"
    tiny_nano_pipeline(32, FRAMES).save_pretrained(tiny)
    services = services_in(tmp_path_factory.mktemp("serving"))
    services.worker = WorkerSettings(
        models={"tiny": str(tiny), "nano": "nano"},
        database_url=services.worker.database_url,
        store=services.worker.store,
    )
    services.media = services.planner = InThisProcess()
    client = client_of(services)
    worker = Worker(services.worker, SessionMaker(services.worker))
    working = threading.Thread(target=worker.run, daemon=True)
    working.start()
    asked = {"prompt": "A red ball bounces.", "num_inference_steps": 1, "n": 2, "seed": 7}
    job = client.post("/v1/videos", data=asked, files={"input_reference": ("upload", PNG)}).json()
    events = client.get(f"/v1/videos/{job['id']}/events").text
    assert '"status":"completed"' in events, events
    worker.ask_to_stop()
    working.join()
    return Studio(services, client, (f"{job['id']}_0", f"{job['id']}_1"))


@pytest.fixture
def fresh(studio: Studio) -> Iterator[Studio]:
    """The studio; the clips are as they were made before the test and after it."""
    yield studio
    studio.client.post("/v1/studio/clips/restore", json={"ids": list(studio.ids)})
    for one in studio.ids:
        studio.client.patch(f"/v1/studio/clips/{one}", json={"title": "", "favourite": False, "folder": "", "tags": []})


def fake_clip(services: Services, prompt: str, *, access: Access = OPEN_ACCESS) -> str:
    """A completed job of a few bytes; the name of its clip."""
    return complete(services, ask(services.database, prompt, access=access, model="tiny").id)


def complete(services: Services, job_id: str) -> str:
    """Complete a job with a clip of a few bytes; the name of the clip. Those that wait before it fail."""
    claims = Claims(services.database, "w")
    while (held := claims.claim(["tiny", "nano"], [], 60)) is not None and held.id != job_id:
        claims.fail(held, "x", "x", 1.0)
    assert held is not None
    name = f"outputs/{job_id}/1-0-video.mp4"
    made = {"seeds": [3], "seconds": 2.0, "size": "32x32", "fps": 24.0, "num_frames": 49, "steps": 1}
    assert claims.complete(held, [{"video": name}], made, 10, None)
    return f"{job_id}_0"


def test_every_clip_of_a_job_is_in_the_library_with_its_own_seed(studio: Studio) -> None:
    found = {clip["id"]: clip for clip in studio.get("/v1/studio/clips?q=ball")["data"]}
    one, two = (found[name] for name in studio.ids)
    assert (one["seed"], two["seed"], two["index"], two["size"]) == (7, 8, 1, "32x32")
    assert (one["expires_at"] is None, one["imported"], one["model"]) == (False, False, "tiny")
    for name in ("video_url", "thumbnail_url", "spritesheet_url"):
        assert studio.client.get(two[name]).status_code == 200
    assert one["video_url"] != two["video_url"]


def test_clips_are_found_by_words_tags_folders_and_favourites(fresh: Studio) -> None:
    one, two = fresh.ids
    patched = fresh.client.patch(f"/v1/studio/clips/{one}", json={"title": "Take 100%", "tags": [" best  take", "x"]})
    assert (patched.json()["title"], patched.json()["tags"]) == ("Take 100%", ["best take", "x"])
    fresh.post("/v1/studio/clips/change", {"ids": [one, two], "folder": " Day 1 ", "add_tags": ["day"]})
    fresh.post("/v1/studio/clips/change", {"ids": [two], "favourite": True, "remove_tags": ["day"]})
    assert set(fresh.listed("folder=Day%201")) == {one, two}
    assert fresh.listed("favourite=true") == [two]
    assert fresh.listed("tag=day&tag=x") == [one]
    assert fresh.listed("q=RED%20100%25") == fresh.listed("q=best%20take") == [one]
    assert fresh.listed("q=%23best%20take") == [one], "as the shelf writes a tag"
    assert fresh.listed("q=100_") == []
    shelves = fresh.get("/v1/studio/shelves")
    assert shelves["tags"] == [{"name": name, "count": 1} for name in ("best take", "day", "x")]
    assert shelves["folders"] == [{"name": "Day 1", "count": 2}]
    assert (shelves["total"], shelves["favourites"], shelves["trashed"]) == (2, 1, 0)
    assert shelves["bytes"] > 1000


def test_a_clip_that_was_made_here_and_comes_back_is_known(studio: Studio) -> None:
    """Its film is downloaded and imported: it is the clip that is there."""
    one = studio.ids[0]
    before = studio.listed()
    film = studio.client.get(studio.get(f"/v1/studio/clips/{one}")["video_url"]).content
    report = studio.client.post("/v1/studio/imports", files=[("file", ("ball.mp4", film))]).json()
    assert ([clip["id"] for clip in report["data"]], report["known"]) == ([one], [one]), report
    assert studio.listed() == before


def test_the_trash_gives_back_and_takes_for_good(fresh: Studio) -> None:
    (gone,) = fresh.post("/v1/studio/clips/trash", {"ids": [fresh.ids[0]]})["data"]
    assert gone["purge_at"] - gone["trashed_at"] == 7 * 86_400
    assert fresh.listed() == [fresh.ids[1]]
    assert fresh.listed("trashed=true") == [fresh.ids[0]]
    fresh.post("/v1/studio/clips/restore", {"ids": [fresh.ids[0]]})
    assert set(fresh.listed()) == set(fresh.ids)
    assert fresh.post("/v1/studio/clips/purge", {"ids": [fresh.ids[0]]}) == {"purged": 0}  # it is not in the trash
    doomed = fake_clip(fresh.services, "doomed")
    fresh.post("/v1/studio/clips/trash", {"ids": [doomed]})
    assert purge_old(fresh.services.database, fresh.services.store, 3600) == 0
    assert fresh.post("/v1/studio/clips/purge", {"everything": True}) == {"purged": 1}
    assert fresh.client.get(f"/v1/videos/{doomed[:-2]}").status_code == 404
    old = fake_clip(fresh.services, "old")
    trash_clips(fresh.services.database, find_clips(fresh.services.database, OPEN_ACCESS, [old]))
    assert purge_old(fresh.services.database, fresh.services.store, -1) == 1


def test_a_thousand_clips_are_paged_through_once_each(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    one = fake_clip(services, "many")
    with services.database.write() as connection:
        job = dict(connection.execute(JOB.select()).mappings().one())
        clip = dict(connection.execute(CLIP.select()).mappings().one())
        jobs = [{**job, "id": f"video_{number:04x}"} for number in range(999)]
        clips = [{**clip, "id": f"{row['id']}_0", "job_id": row["id"], "created_at": 5.0} for row in jobs]
        connection.execute(JOB.insert(), jobs)
        connection.execute(CLIP.insert(), clips)
    assert one.startswith("video_")
    client, seen, cursor = client_of(services), [], ""
    while cursor is not None:
        page = client.get(f"/v1/studio/clips?limit=200{f'&cursor={cursor}' if cursor else ''}").json()
        seen += [clip["id"] for clip in page["data"]]
        cursor = page["next_cursor"]
        assert page["total"] == 1000
    assert len(seen) == len(set(seen)) == 1000
    assert client.get("/v1/studio/clips?cursor=video_gone_0").json()["error"]["param"] == "cursor"


def test_other_keys_clips_are_not_there(studio: Studio) -> None:
    other = Access("key_other", frozenset((READ, WRITE)))
    assert find_clips(studio.services.database, other, studio.ids) == []
    theirs = fake_clip(studio.services, "theirs", access=other)
    assert [clip.id for clip in find_clips(studio.services.database, other, [theirs])] == [theirs]
    for path in ("", "/frame", "/sound", "/settings", "/timeline", "/frames", "/spectrogram"):
        answer = studio.client.get(f"/v1/studio/clips/video_none_0{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "clip_not_found")
    studio.post("/v1/studio/clips/trash", {"ids": [theirs]})
    studio.post("/v1/studio/clips/purge", {"everything": True})


def test_a_frame_the_sound_and_a_strip_come_out_of_a_clip(studio: Studio) -> None:
    first, later = (studio.client.get(f"/v1/studio/clips/{studio.ids[0]}/frame?at={at}") for at in (0, 4 / 24))
    assert (later.headers["x-frame-index"], later.headers["content-type"]) == ("4", "image/png")
    assert Image.open(io.BytesIO(later.content)).size == (32, 32)
    assert first.content != later.content
    assert studio.client.get(f"/v1/studio/clips/{studio.ids[0]}/frame?at=1").status_code == 400
    sound = studio.client.get(f"/v1/studio/clips/{studio.ids[0]}/sound")
    assert sound.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(sound.content)) as file:
        assert (file.getsampwidth(), file.getnframes() / file.getframerate()) == (
            2,
            pytest.approx(FRAMES / 24, abs=1e-3),
        )
    strip = studio.client.get(f"/v1/studio/clips/{studio.ids[0]}/frames?count=3&height=16")
    assert Image.open(io.BytesIO(strip.content)).size == (3 * int(strip.headers["x-frame-width"]), 16)


def test_settings_are_the_request_that_makes_the_clip_again(studio: Studio) -> None:
    settings = studio.get(f"/v1/studio/clips/{studio.ids[1]}/settings")
    assert (settings["task"], settings["url"], settings["missing"]) == ("create", "/v1/videos", [])
    assert settings["request"] == {
        "prompt": "A red ball bounces.", "num_inference_steps": 1, "model": "tiny", "seed": 8,
    }  # fmt: skip
    assert settings["recorded"]["seed"] == 8
    (given,) = settings["inputs"]
    assert (given["field"], given["kind"]) == ("input_reference", "image")
    picture = studio.client.get(given["url"])
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
    again = studio.client.post(
        settings["url"], data=settings["request"], files={given["field"]: ("upload", picture.content)}
    )
    assert again.status_code == 200
    studio.client.delete(f"/v1/videos/{again.json()['id']}")


def test_a_jobs_keyframe_is_given_again_with_its_second(studio: Studio) -> None:
    files = {"keyframes[0.25]": ("upload", PNG)}
    job = studio.client.post("/v1/videos", data={"prompt": "A red ball bounces.", "model": "tiny"}, files=files).json()
    shown = next(one for one in studio.get("/v1/studio/jobs")["waiting"] if one["id"] == job["id"])
    (given,) = shown["inputs"]
    assert (given["field"], given["kind"], given["at"]) == ("keyframes[0.25]", "image", 0.25)
    assert studio.client.get(given["url"]).content == PNG
    studio.client.delete(f"/v1/videos/{job['id']}")


def test_a_models_steps_are_those_that_are_used() -> None:
    """The embedded model's own student takes four; eight are the model's without it."""
    session = open_session(open_checkpoint("nano"), WorkerSettings({"nano": "nano"}).hardware)
    facts = model_facts_of(session)
    session.close()
    assert (facts["steps"], facts["defaults"]["size"], facts["defaults"]["num_frames"]) == (4, "64x64", 49)


def test_variations_keep_everything_but_the_seed(studio: Studio) -> None:
    path = f"/v1/studio/clips/{studio.ids[0]}/variations"
    jobs = studio.post(path, {"seeds": [1, 2], "changes": {"prompt": "A blue ball."}})["data"]
    assert [job["request"]["seed"] for job in jobs] == [1, 2]
    assert {job["prompt"] for job in jobs} == {"A blue ball."}
    assert all([one["field"] for one in job["inputs"]] == ["input_reference"] for job in jobs)
    assert len(studio.post(path, {"count": 3})["data"]) == 3
    for job in studio.get("/v1/studio/jobs")["waiting"]:
        studio.client.delete(f"/v1/videos/{job['id']}")


def test_clips_by_their_own_name_are_taken_as_inputs(studio: Studio) -> None:
    for path, more in (
        ("edits", {"video": {"id": studio.ids[1]}, "start": 0.1, "end": 0.3}),
        ("extensions", {"video": {"id": studio.ids[1]}}),
        ("extensions", {"video": {"id": studio.ids[1]}, "continue_at": 5 / 24}),
        ("", {"audio": {"id": studio.ids[1]}}),
        ("", {"voice": {"id": studio.ids[1]}}),
    ):
        answer = studio.client.post(f"/v1/videos/{path}".rstrip("/"), json={"prompt": "a ball", **more})
        assert answer.status_code == 200, answer.text
        studio.client.delete(f"/v1/videos/{answer.json()['id']}")


def test_nothing_is_made_from_a_clip_in_the_trash(fresh: Studio) -> None:
    one = fresh.ids[0]
    fresh.post("/v1/studio/clips/trash", {"ids": [one]})
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/videos/edits", {"prompt": "a", "video": {"id": one}, "start": 0.1, "end": 0.3}),
        ("/v1/videos/extensions", {"prompt": "a", "video": {"id": one}}),
        ("/v1/videos", {"prompt": "a", "audio": {"id": one}}),
        (f"/v1/studio/clips/{one}/variations", {"count": 1}),
    ]
    for path, body in asked:
        answer = fresh.client.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (409, "clip_in_trash"), path
        assert error["message"] == "this clip is in the trash; put it back first"
    fresh.post("/v1/studio/clips/restore", {"ids": [one]})
    made = fresh.post(f"/v1/studio/clips/{one}/variations", {"count": 1})["data"]
    fresh.client.delete(f"/v1/videos/{made[0]['id']}")


def test_a_file_is_sent_once_for_many_plans_and_the_clip(studio: Studio, tmp_path: Path) -> None:
    sent = studio.client.post("/v1/studio/uploads", files={"file": ("path/of mine.png", PNG)}).json()["id"]
    assert studio.client.post("/v1/studio/uploads", files={"file": PNG}).json()["id"] == sent
    asked = {
        "prompt": "a ball",
        "input_reference": {"file_id": sent},
        "keyframes": {"0.25": {"file_id": sent}},
    }
    for _ in range(2):
        assert studio.post("/v1/studio/plan", asked)["possible"]
    job = _job(studio, studio.post("/v1/videos", asked)["id"])
    assert sorted(job.request.inputs) == ["image", "keyframe:0.25"]
    assert {b"".join(studio.services.store.read(name, 0, 1000)) for name in job.request.inputs.values()} == {PNG}
    assert job.nbytes == 2 * len(PNG)
    assert job.request.hashes == dict.fromkeys(job.request.inputs, hashlib.sha256(PNG).hexdigest())
    studio.client.delete(f"/v1/videos/{job.id}")
    plan = studio.post("/v1/studio/plan", {"prompt": "a", "audio": {"file_id": sent}})
    assert [(one["param"], one["code"]) for one in plan["refused"]] == [("audio", "unsupported_media")]
    other = find_upload(studio.services, Access("key_other", frozenset((READ, WRITE))), sent)
    assert (other, find_upload(studio.services, OPEN_ACCESS, sent)) == (None, f"inputs/{sent}/upload")
    os.utime(Path(studio.services.worker.store) / "inputs" / sent, (1.0, 1.0))
    sweep_files(studio.services.database, studio.services.store)
    (refused,) = studio.post("/v1/studio/plan", asked)["refused"]
    assert refused["code"] == "upload_not_found"
    gone = studio.client.post("/v1/videos", json=asked)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "upload_not_found")
    assert studio.client.post("/v1/studio/uploads", files={"other": PNG}).status_code == 400


def test_uploads_of_a_key_are_few_and_within_its_quota(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    access, file = Access("key_one", frozenset((WRITE,)), max_bytes=100), tmp_path / "file"
    names = []
    for number in range(MOST_UPLOADS + 2):
        file.write_bytes(bytes([number]))
        names.append(keep_upload(services, access, file))
        os.utime(tmp_path / "files" / "inputs" / names[-1], (number, number))
    there = {name for name, _ in services.store.folders("inputs")}
    assert there == set(names[2:])
    file.write_bytes(bytes(101))
    with pytest.raises(QueueFull, match="this key's disk quota is used up"):
        keep_upload(services, access, file)


def test_a_clip_knows_what_it_was_made_from_and_what_was_made_from_it(fresh: Studio) -> None:
    source = {"id": fresh.ids[1]}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("retake", "/v1/videos/edits", {"prompt": "a", "video": source, "start": 0.1, "end": 0.3}),
        ("continuation", "/v1/videos/extensions", {"prompt": "a", "video": source, "continue_at": 5 / 24}),
        ("new_sound", "/v1/videos", {"prompt": "a", "video": source}),
        ("new_picture", "/v1/videos", {"prompt": "a", "audio": source}),
        ("variation", f"/v1/studio/clips/{fresh.ids[1]}/variations", {"count": 1}),
    ]
    takes = []
    for way, path, body in asked:
        answer = fresh.post(path, body)
        take = complete(fresh.services, (answer["data"][0] if "data" in answer else answer)["id"])
        assert fresh.get(f"/v1/studio/clips/{take}")["origin"] == {"way": way, "clip": fresh.ids[1]}
        takes.append(take)
    assert sorted(fresh.listed(f"made_from={fresh.ids[1]}")) == sorted(takes)
    assert fresh.listed(f"made_from={fresh.ids[0]}") == []
    assert fresh.get(f"/v1/studio/clips/{fresh.ids[1]}")["origin"] is None
    sent = fresh.client.post(
        "/v1/videos/edits", data={"prompt": "a", "start": 0.1, "end": 0.3}, files={"video": _film(fresh)}
    )
    sent_take = complete(fresh.services, sent.json()["id"])
    assert fresh.get(f"/v1/studio/clips/{sent_take}")["origin"] == {"way": "retake", "clip": None}
    fresh.post("/v1/studio/clips/trash", {"ids": [*takes, sent_take]})
    fresh.post("/v1/studio/clips/purge", {"everything": True})


def _film(studio: Studio) -> tuple[str, bytes]:
    """The second clip's file, to be sent."""
    return "film.mp4", studio.client.get(f"/v1/videos/{studio.ids[1][:-2]}/content?index=1").content


def test_one_goes_on_from_any_moment_of_a_clip(studio: Studio) -> None:
    asked = {"prompt": "a ball", "video": {"id": studio.ids[0]}, "continue_at": 5 / 24}
    job = studio.post("/v1/videos/extensions", asked)["id"]
    given = _job(studio, job).request.inputs["continue_from"]
    with studio.services.store.as_file(given) as path:
        assert read_clip(path).num_frames == 5
    assert len(studio.services.store.files("inputs", job)) == 1
    studio.client.delete(f"/v1/videos/{job}")
    late = studio.client.post("/v1/videos/extensions", json={**asked, "continue_at": 3})
    assert (late.status_code, late.json()["error"]["param"]) == (400, "continue_at")
    assert "0.375 s long" in late.json()["error"]["message"]


def test_a_timeline_is_measured_once_and_goes_with_its_clip(studio: Studio) -> None:
    path = f"/v1/studio/clips/{studio.ids[0]}/timeline"
    timeline = studio.get(path)
    assert (timeline["num_frames"], timeline["width"], timeline["fps"]) == (FRAMES, 32, 24.0)
    (channel, *_) = timeline["peaks"]["channels"]
    assert len(channel["low"]) == pytest.approx(timeline["seconds"] * timeline["peaks"]["per_second"], abs=2)
    assert len(timeline["impact"]) == FRAMES
    assert timeline["lag"]["milliseconds"] is None
    assert timeline["lag"]["reason"] == marks_in_words(timeline["seen"], timeline["heard"], 1 / 24)
    picture = Image.open(io.BytesIO(studio.client.get(timeline["spectrogram"]["url"]).content))
    assert picture.size == (timeline["spectrogram"]["width"], timeline["spectrogram"]["height"])
    media, studio.services.media = studio.services.media, SideProcess("none")  # nothing is measured again
    assert studio.get(path) == timeline
    studio.services.media = media
    sweep_files(studio.services.database, studio.services.store)
    assert studio.get(path) == timeline


def test_a_plan_says_what_will_be_made_and_what_it_takes(studio: Studio) -> None:
    plan = studio.post("/v1/studio/plan", {"prompt": "a ball", "num_inference_steps": 1})
    assert (plan["possible"], plan["clip"]["num_frames"], plan["clip"]["steps"]) == (True, FRAMES, 1)
    assert plan["seconds_basis"] == "measured"
    assert "tiny" in plan["line"]
    memory = plan["memory"]
    assert (memory["where"], memory["host_bytes"]) == ("host", memory["peak_bytes"])
    assert 0 < memory["weights_bytes"] < memory["peak_bytes"]
    longer = studio.post("/v1/studio/plan", {"prompt": "a ball", "num_inference_steps": 3})
    assert longer["seconds"] == pytest.approx(3 * plan["seconds"], rel=0.05, abs=HUNDREDTHS), (
        "three times the steps, measured once"
    )
    more = studio.post("/v1/studio/plan", {"prompt": "a ball", "num_inference_steps": 1, "num_frames": 17})
    assert more["seconds"] == pytest.approx(17 / FRAMES * plan["seconds"], rel=0.05, abs=HUNDREDTHS)
    larger = studio.post("/v1/studio/plan", {"prompt": "a ball", "num_inference_steps": 1, "size": "48x32"})
    assert (larger["seconds_basis"], larger["seconds"] > 0) == ("computed", True)
    assert larger["memory"]["weights_bytes"] == memory["weights_bytes"]
    assert larger["memory"]["peak_bytes"] > memory["peak_bytes"], "a larger picture takes more beside the weights"
    retake = {"prompt": "a ball", "task": "edit", "video": {"id": studio.ids[0]}, "start": 0.1, "end": 0.3}
    assert studio.post("/v1/studio/plan", retake)["possible"]
    assert studio.services.store.folders("inputs") != []
    assert all("video_" in name for name, _ in studio.services.store.folders("inputs"))


def test_before_the_first_clip_what_waits_is_taken_for_what_is_planned(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    assert queue_seconds(services, 3.0) == (0, 0)
    ask(services.database, "one", model="nano")
    ask(services.database, "two", model="nano")
    assert queue_seconds(services, 3.0) == (0, 6.0)


def test_what_waits_counts_by_its_own_length_steps_and_clips(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    ask(services.database, "made", model="nano")
    held = Claims(services.database, "w").claim(["nano"], [], 60)
    assert held is not None
    made = {"size": "64x64", "num_frames": 48, "steps": 4, "seeds": [1, 2], "inference_time_s": 8.0}
    assert Claims(services.database, "w").complete(held, [{}, {}], made, 10, None)
    ask(services.database, "as that", model="nano", num_frames=48, steps=4)
    assert queue_seconds(services, 99.0) == (0, 4.0)
    ask(services.database, "longer, with half the steps", model="nano", seconds=20.0, steps=2)
    assert queue_seconds(services, 99.0) == (0, 24.0)
    ask(services.database, "of another model", model="big")
    assert queue_seconds(services, 99.0) == (0, 123.0)


def test_a_plan_of_what_cannot_be_taken_is_no_error(studio: Studio) -> None:
    """A browser writes every answer of 400 and more into its console, and a plan is asked for to learn what cannot be made."""
    words = {"prompt": "a"}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"data": words, "files": {"last_frame": ("upload", b"no picture")}}, "last_frame", "unsupported_media"),
        ({"data": words, "files": {"last_frame": ("upload", PNG[:40])}}, "last_frame", "invalid_value"),
        ({"json": {**words, "video": {"id": "video_gone_0"}}}, "video_id", "video_not_found"),
        ({"json": {**words, "model": "none"}}, "model", "model_not_found"),
    ]
    for asked, param, code in cases:
        answer = studio.client.post("/v1/studio/plan", **asked)
        assert answer.status_code == 200, answer.text
        (refused,) = answer.json()["refused"]
        assert (refused["param"], refused["code"]) == (param, code)
    assert all("video_" in name for name, _ in studio.services.store.folders("inputs"))


def test_a_film_that_is_too_large_is_refused_before_it_waits(studio: Studio) -> None:
    worker = studio.services.worker
    studio.services.worker = replace(worker, limits=replace(worker.limits, max_side=32, max_pixel_frames=32 * 32 * 4))
    plan = studio.post("/v1/studio/plan", {"prompt": "a", "video": {"id": studio.ids[0]}})
    studio.services.worker = worker
    assert "more than this server makes at once" in plan["refused"][0]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": "a", "size": "33x32"}, "width", "multiple of 16"),
        ({"prompt": "a", "seconds": 100}, "seconds", "at most"),
        ({"prompt": "a", "loras": ["gone"]}, "loras", "not offered"),
        ({}, "prompt", "prompt"),
        ({"prompt": "a", "task": "edit", "video": "CLIP", "start": 5, "end": 6}, None, ""),
    ],
    ids=["size", "length", "lora", "prompt", "outside the clip"],
)
def test_a_plan_says_what_cannot_be_made(studio: Studio, fields: dict[str, Any], param: str | None, words: str) -> None:
    if fields.get("video") == "CLIP":
        fields = {**fields, "video": {"id": studio.ids[0]}}
    plan = studio.post("/v1/studio/plan", fields)
    assert not plan["possible"]
    (refused,) = plan["refused"]
    assert words in refused["message"]
    assert param is None or refused["param"] == param


@pytest.mark.slow  # reads the embedded model's sizes and measures this CPU
def test_the_embedded_models_words_are_said_before_anything_runs(studio: Studio) -> None:
    plan = studio.post("/v1/studio/plan", {"prompt": "A zebra bounces.", "model": "nano", "num_inference_steps": 1})
    assert plan["unknown_words"] == ["zebra"]
    assert any("zebra" in warning for warning in plan["warnings"])
    assert "A red ball bounces on a wooden floor in front of a pale blue sky." in plan["suggestions"]
    words = studio.get("/v1/studio/vocabulary?model=nano")
    assert {"ball", "red"} <= set(words["words"])
    assert studio.get("/v1/studio/vocabulary?model=tiny")["words"] == []


def test_the_queue_is_shown_in_order_and_changes_are_told(studio: Studio) -> None:
    watch = Watch(studio.services, OPEN_ACCESS)
    kinds = [event["event"] for event in watch.look()]
    assert kinds[0] == "jobs"
    assert list(watch.look()) == []
    first, second = (studio.post("/v1/videos", {"prompt": name})["id"] for name in ("one", "two"))
    told = [(event["event"], json.loads(event["data"])["id"]) for event in watch.look()]
    assert told == [("job", first), ("job", second)]
    studio.post(f"/v1/videos/{second}/move", {"index": 0})
    (event,) = watch.look()
    assert [job["id"] for job in json.loads(event["data"])["waiting"]] == [second, first]
    studio.client.patch(f"/v1/videos/{first}", json={"prompt": "uno", "guidance_interval": "0:0.5"})
    (event,) = watch.look()
    assert json.loads(event["data"])["request"]["guidance_interval"] == "0:0.5"
    cancel_job(studio.services.database, _job(studio, first))
    again = studio.post(f"/v1/studio/jobs/{first}/retry")
    assert (again["prompt"], again["remixed_from_video_id"]) == ("uno", first)
    for one in (first, second, again["id"]):
        studio.client.delete(f"/v1/videos/{one}")
    assert {event["event"] for event in watch.look()} == {"removed"}
    assert studio.client.post(f"/v1/studio/jobs/{studio.ids[0][:-2]}/retry").status_code == 409


def _job(studio: Studio, name: str) -> Job:
    found = find(studio.services.database, name, OPEN_ACCESS)
    assert found is not None
    return found


class CancelledMeanwhile(SessionMaker):
    """Somebody cancels the job while its first clip is put into the store."""

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        database = held.claims.database

        class CancelledAtTheFirst(FolderStore):
            def put(self, name: str, source: Path) -> None:
                super().put(name, source)
                stages.append(find(database, job.id, OPEN_ACCESS).stage)
                cancel_job(database, job)

        stages: list[str | None] = []
        self.stages = stages
        return super().make(job, held, CancelledAtTheFirst(Path(self.settings.store)))


def test_clips_that_were_finished_stay_when_the_rest_is_cancelled(studio: Studio) -> None:
    asked = {"prompt": "Three red balls.", "model": "tiny", "num_inference_steps": 1, "seed": [4, 5, 6]}
    job = studio.post("/v1/videos", asked)
    maker = CancelledMeanwhile(studio.services.worker)
    worker = Worker(studio.services.worker, maker)
    working = threading.Thread(target=worker.run, daemon=True)
    working.start()
    events = studio.client.get(f"/v1/videos/{job['id']}/events").text
    worker.ask_to_stop()
    working.join()
    assert '"status":"cancelled"' in events
    assert maker.stages[0] == "clip 1 of 3: writing"
    assert studio.listed("q=three") == [f"{job['id']}_0"]
    ended = next(one for one in studio.get("/v1/studio/jobs")["ended"] if one["id"] == job["id"])
    assert (ended["clip_ids"], ended["seeds"]) == ([f"{job['id']}_0"], [4])
    assert studio.client.get(f"/v1/videos/{job['id']}/content").status_code == 200
    assert studio.client.post(f"/v1/studio/jobs/{job['id']}/dismiss").status_code == 200
    assert job["id"] not in [one["id"] for one in studio.get("/v1/studio/jobs")["ended"]]
    assert studio.listed("q=three") == [f"{job['id']}_0"], "only the row is gone"
    assert studio.client.get(f"/v1/videos/{job['id']}/content").status_code == 200
    again = studio.post(f"/v1/studio/jobs/{job['id']}/retry")
    assert again["request"]["seed"] == [5, 6], "what is there already is not made once more"
    assert studio.client.post(f"/v1/studio/jobs/{again['id']}/dismiss").status_code == 409, "it waits"
    cancel_job(studio.services.database, _job(studio, again["id"]))
    studio.post(f"/v1/studio/jobs/{again['id']}/dismiss")
    assert studio.client.get(f"/v1/videos/{again['id']}").status_code == 404, "there was nothing to keep"
    studio.client.delete(f"/v1/videos/{job['id']}")


def test_the_stream_of_events_begins_with_how_things_are(studio: Studio) -> None:
    studio.services.closing.set()
    assert studio.client.get("/v1/studio/events").status_code == 200
    studio.services.closing.clear()
    info = studio.get("/v1/studio/info")
    assert [(model["id"], model["embedded"]) for model in info["models"]] == [("tiny", False), ("nano", True)]
    assert (info["trash_days"], info["keep_days"]) == (7.0, 7.0)


def test_rows_of_expired_clips_go_with_their_files(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    clip = fake_clip(services, "old")
    job = find_clips(services.database, OPEN_ACCESS, [clip])[0].job
    cancel_job(services.database, job, hide=True)
    sweep_jobs(services.database, services.store, None)
    with services.database.read() as connection:
        assert list(islice(connection.execute(CLIP.select()), 1)) == []


def test_a_side_process_that_dies_or_dawdles_is_replaced() -> None:
    import time

    side = SideProcess("test", longest=5.0)
    try:
        assert side.run(abs, -3) == 3
        finders = side.run(eval, "[type(finder).__module__ for finder in __import__('sys').meta_path]")
        assert "phonofilm.process.lean_imports" in finders, "diffusers is kept from importing what is not needed"
        with pytest.raises(SideProcessError, match="died"):
            side.run(os._exit, 1)
        assert side.run(abs, -4) == 4
        side.longest = 0.2
        with pytest.raises(SideProcessError, match="longer"):
            side.run(time.sleep, 30.0)
    finally:
        side.close()
