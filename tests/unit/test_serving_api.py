"""The routes, as clients of OpenAI's and SGLang's dialects use them; a stand-in makes the clips."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from tests.serving_stub import BODY, FACTS, StubMaker, worker_thread
from tests.unit.serving_helpers import PNG, client_of, services_in

from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import MadeClips
from phonofilm.serving.jobs.job_queue import Room
from phonofilm.serving.jobs.roster import write_setting
from phonofilm.serving.security.api_keys import create_key, revoke_key
from phonofilm.serving.settings import RequestLimits

BALL = {"prompt": "a ball", "seconds": 2}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    (tmp_path / "voice.safetensors").touch()
    services = services_in(tmp_path, loras={"voice": str(tmp_path / "voice.safetensors")})
    write_setting(services.database, "facts:nano", FACTS)
    return services


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services)


@pytest.fixture
def working(services: Services) -> Iterator[StubMaker]:
    """Clips are made while the test runs."""
    maker = StubMaker()
    worker, thread = worker_thread(services.worker, maker)
    yield maker
    worker.ask_to_stop()
    thread.join()


def created(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/videos", json={**BALL, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finished(client: TestClient, video_id: str) -> dict[str, Any]:
    """The job once it has ended, by its events."""
    lines = client.get(f"/v1/videos/{video_id}/events").text.splitlines()
    return dict(json.loads([line for line in lines if line.startswith("data: ")][-1][6:]))


def refused(answer: Response, status: int, code: str, param: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    return str(error["message"])


def test_a_job_is_described_in_both_dialects(client: TestClient) -> None:
    answer = client.post("/v1/videos", json={**BALL, "seed": 7})
    job = answer.json()
    assert answer.headers["openai-poll-after-ms"] == "1000"
    assert (job["object"], job["status"], job["progress"], job["seed"]) == ("video", "queued", 0, 7)
    assert (job["size"], job["seconds"]) == ("64x64", "2.04167")  # what is made, not what was asked
    assert client.get(f"/v1/videos/{job['id']}").json() == job


@pytest.mark.parametrize(
    ("asked", "size"),
    [("64X64", "64x64"), (" 080x064 ", "80x64"), ("360p", "640x352"), ("720P", "1280x720"), ("auto", None)],
)
def test_a_size_is_said_as_it_is_made(client: TestClient, asked: str, size: str | None) -> None:
    image = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    job = created(client, size=asked, num_frames=1, input_reference=image)
    assert job["size"] == size, "the shape of the picture is not known before it is opened"
    assert client.patch(f"/v1/videos/{job['id']}", json={"size": "80X64"}).json()["size"] == "80x64"


def test_a_job_that_ended_keeps_the_size_and_length_that_were_asked_for(client: TestClient, services: Services) -> None:
    asked = [created(client), created(client, size="80x64", num_frames=9)]
    sizes = [("64x64", "2.04167"), ("80x64", "0.375")]
    fresh = client_of(Services(services.database, services.store, services.worker))  # has not looked the model up yet
    for job, expected in zip(asked, sizes, strict=True):
        client.post(f"/v1/videos/{job['id']}/cancel")
        for one in (client, fresh):
            for now in (
                one.get(f"/v1/videos/{job['id']}").json(),
                one.get("/v1/videos").json()["data"][1 - asked.index(job)],
            ):
                assert (now["status"], now["size"], now["seconds"]) == ("cancelled", *expected)


def test_a_job_that_ended_before_its_last_clip_says_the_size_of_those_that_were_made(
    client: TestClient, services: Services
) -> None:
    job = created(client, n=2)
    claims = Claims(services.database, "a")
    held = claims.claim(["nano"], [], 60)
    assert held is not None
    made = MadeClips([{"video": "x"}], {"seeds": [5], "size": "32x32", "seconds": 1.5}, 1)
    claims.publish(held, made, None)
    claims.fail(held, "internal_error", "a bug", None, made)
    now = client.get(f"/v1/videos/{job['id']}").json()
    assert (now["status"], now["size"], now["seconds"]) == ("failed", "32x32", "1.5")


def test_a_form_with_numbers_as_text_is_the_same_request(client: TestClient) -> None:
    fields = {"prompt": "a ball", "seconds": "2", "seed": "3", "num_inference_steps": "4", "modality_scale": "1.5"}
    job = client.post("/v1/videos", data={**fields, "extra_body[guidance_scale]": "2", "loras[]": ["voice:0.5"]}).json()
    again = created(client, seed=3, num_inference_steps=4, modality_scale=1.5, guidance_scale=2, loras=["voice:0.5"])
    mine, other = (client.app.services.database for _ in range(2))  # type: ignore[attr-defined]
    assert mine is other
    from phonofilm.serving.jobs.job_queue import find
    from phonofilm.serving.security.access import OPEN_ACCESS

    one, two = (find(mine, video["id"], OPEN_ACCESS) for video in (job, again))
    assert one is not None
    assert two is not None
    assert one.request.seeds == two.request.seeds == [3]
    assert one.request.loras == two.request.loras == ["voice:0.5"]
    assert {key: float(one.request.options[key]) for key in ("steps", "guidance_scale", "modality_scale")} == {
        "steps": 4.0,
        "guidance_scale": 2.0,
        "modality_scale": 1.5,
    }


def test_a_clip_is_made_and_fetched_whole_or_in_part(client: TestClient, working: StubMaker) -> None:
    job = finished(client, created(client, n=2, seed=5)["id"])
    assert (job["status"], job["progress"], job["seeds"], len(job["urls"])) == ("completed", 100, [5, 6], 2)
    whole = client.get(job["urls"][1])
    assert whole.content == BODY + b"video"
    assert whole.headers["content-type"] == "video/mp4"
    tag = whole.headers["etag"]
    for has, status in ((tag, 304), (f'"other", W/{tag}', 304), ("*", 304), ('"other"', 200)):
        assert client.get(whole.url, headers={"If-None-Match": has}).status_code == status
    part = client.get(f"/v1/videos/{job['id']}/content", headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, BODY[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(whole.content)}"
    for ignored in ("lines=0-1", "bytes=0-1,4-5", "bytes=a-b", "bytes=", "bytes=-", "bytes=5-2"):
        assert client.get(part.url, headers={"Range": ignored}).status_code == 200
    assert client.get(part.url, headers={"Range": f"bytes=0-{10**30}"}).status_code == 206
    for path in (f"/v1/videos/{job['id']}/content", "/v1/videos", f"/v1/videos/{job['id']}/events"):
        head, got = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("content-length") == got.headers.get("content-length")
    thumbnail = client.get(f"/v1/videos/{job['id']}/content?variant=thumbnail")
    assert (thumbnail.headers["content-type"], thumbnail.content) == ("image/webp", BODY + b"thumbnail")
    refused(client.get(f"/v1/videos/{job['id']}/content", headers={"Range": "bytes=900-"}), 416, "invalid_range")
    refused(client.get(f"/v1/videos/{job['id']}/content?index=2"), 400, "invalid_value", "index")


def test_a_part_of_another_file_is_not_added_to_the_one_that_a_client_has(
    client: TestClient, working: StubMaker
) -> None:
    content = f"/v1/videos/{finished(client, created(client)['id'])['id']}/content"
    tag = client.get(content).headers["etag"]

    def asked(part: str, of: str) -> Response:
        return client.get(content, headers={"Range": part, "If-Range": of})

    assert (asked("bytes=2-5", tag).status_code, asked("bytes=2-5", tag).content) == (206, BODY[2:6])
    for other in (f"W/{tag}", '"other"', "Sun, 29 Nov 2026 00:00:00 GMT", ""):
        for part in ("bytes=2-5", "bytes=900-"):
            assert (asked(part, other).status_code, asked(part, other).content) == (200, BODY + b"video"), other


def test_each_of_several_clips_can_be_fetched_as_soon_as_it_is_finished(
    client: TestClient, services: Services, working: StubMaker
) -> None:
    there, go_on = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        there.set()
        go_on.wait(60)

    working.after_clip = hold
    job = created(client, n=2, seed=5)
    assert there.wait(60)
    now = client.get(f"/v1/videos/{job['id']}").json()
    content = f"http://testserver/v1/videos/{job['id']}/content"
    assert (now["status"], now["num_outputs"], now["urls"], now["seeds"]) == ("in_progress", 2, [content], [5, 6])
    assert client.get(content).content == BODY + b"video"
    assert "clip 1 of" in refused(client.get(f"{content}?index=1"), 409, "video_not_ready", "video_id")
    refused(client.get(f"{content}?index=2"), 400, "invalid_value", "index")
    (listed,) = client.get("/v1/studio/clips").json()["data"]
    assert (listed["id"], client.get(listed["thumbnail_url"]).status_code) == (f"{job['id']}_0", 200)
    (running,) = client.get("/v1/studio/jobs").json()["running"]
    assert running["clip_ids"] == [listed["id"]]
    go_on.set()
    assert len(finished(client, job["id"])["urls"]) == 2


def test_a_job_with_clips_that_waits_again_takes_no_other_prompt(client: TestClient, services: Services) -> None:
    job = created(client, n=2, seed=5)
    claims = Claims(services.database, "a")
    held = claims.claim(["nano"], [], 60)
    assert held is not None
    claims.publish(held, MadeClips([{"video": "x"}], {"seeds": [5]}, 1), None)
    claims.release(held)
    answer = client.patch(f"/v1/videos/{job['id']}", json={"prompt": "another"})
    assert "1 of the clips" in refused(answer, 409, "video_not_queued", "video_id")
    assert client.patch(f"/v1/videos/{job['id']}", json={"priority": 3}).json()["priority"] == 3


def test_what_a_worker_cannot_make_fails_with_the_reason_and_without_paths(
    client: TestClient, working: StubMaker
) -> None:
    answers = [finished(client, created(client, prompt=prompt)["id"]) for prompt in ("refuse", "crash", "fine")]
    assert [job["status"] for job in answers] == ["failed", "failed", "completed"]
    assert answers[0]["error"] == {
        "code": "invalid_request",
        "message": "the request cannot be met: model.safetensors",
    }
    assert answers[1]["error"]["code"] == "internal_error"
    assert "secret" not in json.dumps(answers)
    refused(client.get(f"/v1/videos/{answers[0]['id']}/content"), 409, "video_not_ready", "video_id")


def test_a_running_job_is_cancelled_within_a_step_and_a_deleted_one_is_gone(
    client: TestClient, services: Services
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(step: int) -> None:
        reached.set()
        go_on.wait()

    worker, thread = worker_thread(services.worker, StubMaker(after_step=hold))
    running = created(client, num_inference_steps=200)["id"]
    reached.wait()
    assert client.get(f"/v1/videos/{running}").json()["step"] == 1
    assert client.get(f"/v1/videos/{running}/content?variant=preview").content == BODY + b"preview"
    shown = client.get(f"/v1/studio/jobs/{running}/preview")
    assert (shown.content, shown.headers["content-type"]) == (BODY + b"preview", "image/webp")
    client.post(f"/v1/videos/{running}/cancel")
    go_on.set()
    job = finished(client, running)
    assert (job["status"], job["step"]) == ("cancelled", 2)
    refused(client.get(f"/v1/videos/{running}/content?variant=preview"), 404, "no_preview", "variant")
    # The page asks for what was there a moment ago: browsers write answers of 404 into their console.
    for gone in (running, "video_gone"):
        assert client.get(f"/v1/studio/jobs/{gone}/preview").status_code == 204
    assert client.delete(f"/v1/videos/{running}").json() == {
        "id": running,
        "object": "video.deleted",
        "deleted": True,
    }
    refused(client.get(f"/v1/videos/{running}"), 404, "video_not_found", "video_id")
    worker.ask_to_stop()
    thread.join()


def test_sync_answers_with_the_file(client: TestClient, working: StubMaker) -> None:
    assert client.post("/v1/videos/sync", json=BALL).content == BODY + b"video"
    refused(client.post("/v1/videos/sync", json={**BALL, "prompt": "refuse"}), 400, "invalid_request")


@pytest.mark.parametrize("several", [{"n": 2}, {"num_outputs_per_prompt": 3}, {"seed": [1, 2]}])
def test_sync_makes_no_clips_that_it_does_not_answer_with(
    client: TestClient, services: Services, several: dict[str, Any]
) -> None:
    answer = client.post("/v1/videos/sync", json={"prompt": "a ball", **several})
    assert answer.status_code == 400
    (name,) = several
    message = f"{name}: this route answers with the file of one clip; for several use POST /v1/videos"
    assert (answer.json()["error"]["message"], answer.json()["error"]["param"]) == (message, name)
    assert client.get("/v1/videos").json()["data"] == []


def test_a_remix_keeps_settings_and_seed(client: TestClient, working: StubMaker) -> None:
    first = finished(client, created(client, seed=9, num_inference_steps=3)["id"])
    again = client.post(f"/v1/videos/{first['id']}/remix", json={"prompt": "a lamp"}).json()
    done = finished(client, again["id"])
    assert (done["prompt"], done["seed"], done["steps"]) == ("a lamp", 9, 3)
    assert done["remixed_from_video_id"] == first["id"]


def test_edits_and_extensions_take_an_id_or_a_file(client: TestClient, working: StubMaker, services: Services) -> None:
    made = finished(client, created(client)["id"])["id"]
    stretch = {"prompt": "a lamp", "start": 0.5, "end": 1.5}
    waiting = [
        client.post("/v1/videos/edits", json={**stretch, "video": {"id": made}}),
        client.post("/v1/videos/edits", data={**stretch, "video[id]": made}),
        client.post("/v1/videos/edits", data=stretch, files={"video": ("a", b"\x00\x00\x00\x18ftypmp42aaaa")}),
        client.post("/v1/videos/extensions", json={"prompt": "on", "video": {"id": made}, "seconds": 3}),
        client.post("/v1/videos/extensions", data={"prompt": "on", "video": json.dumps({"id": made})}),
    ]
    assert [answer.status_code for answer in waiting] == [200] * 5
    refused(client.post("/v1/videos/edits", json={"prompt": "x", "video": {"id": made}}), 400, "invalid_value", "start")
    refused(client.post("/v1/videos/extensions", json={"prompt": "x"}), 400, "missing_field", "video")
    refused(
        client.post("/v1/videos/extensions", json={"prompt": "x", "video": {"id": "video_0"}}),
        404, "video_not_found", "video_id",
    )  # fmt: skip


def test_pictures_come_as_files_or_data_urls(client: TestClient, services: Services) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    for given in (
        url,
        url.replace("data:image/png;base64", "DATA:image/PNG;BASE64"),
        {"image_url": url},
        {"image_url": {"url": url}},
    ):
        job = created(client, input_reference=given)
        assert services.store.size(f"inputs/{job['id']}/image.png") == len(PNG)
    form = client.post("/v1/videos", data=BALL, files={"input_reference": ("../clips/../a.svg", PNG, "image/svg+xml")})
    assert services.store.files("inputs", form.json()["id"]) == [f"inputs/{form.json()['id']}/image.png"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": " "}, "invalid_value", "prompt"),
        ({"sise": "64x64"}, "invalid_value", "sise"),
        ({"size": "65x64"}, "invalid_value", "width"),
        ({"size": "9000x64"}, "invalid_value", "size"),
        ({"size": "big"}, "invalid_value", "size"),
        ({"width": 64}, "invalid_value", "height"),
        ({"seconds": 1e9}, "invalid_value", "seconds"),
        ({"seconds": -1}, "invalid_value", "seconds"),
        ({"num_frames": 50}, "invalid_value", "num_frames"),
        ({"fps": "1/0"}, "invalid_value", "fps"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"seed": [1, 2], "n": 3}, "invalid_value", "seed"),
        ({"n": 99}, "invalid_value", "n"),
        ({"num_inference_steps": 100_000}, "invalid_value", "num_inference_steps"),
        ({"loras": ["nobody"]}, "invalid_value", "loras"),
        ({"loras": ["/etc/passwd"]}, "invalid_value", "loras"),
        ({"output_path": "/tmp/x"}, "unsupported_parameter", "output_path"),
        ({"guidance_scale_2": 3}, "unsupported_parameter", "guidance_scale_2"),
        ({"extra_body": {"diffusers_kwargs": {"a": 1}}}, "unsupported_parameter", "diffusers_kwargs"),
        ({"enhance_prompt": True}, "invalid_value", "enhance_prompt"),
        ({"draw_first_frame": True}, "invalid_value", "draw_first_frame"),
        ({"callback_url": "https://example.org"}, "callback_not_allowed", "callback_url"),
        ({"input_reference": "/etc/passwd"}, "invalid_value", "input_reference"),
        ({"input_reference": "https://example.org/a.png"}, "url_not_allowed", "input_reference"),
        ({"input_reference": "HTTPS://example.org/a.png"}, "url_not_allowed", "input_reference"),
        ({"input_reference": "data:image/svg+xml;base64,PHN2Zz4="}, "unsupported_media", "input_reference"),
        ({"input_reference": "data:image/png;base64,!"}, "invalid_value", "input_reference"),
        ({"retake_tracks": "both"}, "invalid_value", "retake_tracks"),
        ({"image_fit": "crop"}, "invalid_value", "image_fit"),
        ({"prompt": "x" * 20_000}, "invalid_value", "prompt"),
    ],
)  # fmt: skip
def test_what_cannot_be_met_is_refused_at_once(
    client: TestClient, fields: dict[str, Any], code: str, param: str | None
) -> None:
    refused(client.post("/v1/videos", json={**BALL, **fields}), 400, code, param)
    assert client.get("/v1/videos").json()["data"] == []


def test_fields_that_clients_always_send_are_ignored_aloud(client: TestClient) -> None:
    job = created(client, output_quality="high", output_compression=0, profile=False)
    assert [warning.split()[0] for warning in job["warnings"]] == ["output_quality", "output_compression"]


def test_unknown_models_urls_and_methods_have_the_same_shape(client: TestClient) -> None:
    refused(client.post("/v1/videos", json={**BALL, "model": "sora"}), 404, "model_not_found", "model")
    refused(client.get("/v1/nothing"), 404, "unknown_url")
    refused(client.put("/v1/videos"), 405, "method_not_allowed")
    refused(client.post("/v1/videos", content=b"{", headers={"content-type": "application/json"}), 400, "invalid_json")
    refused(client.post("/v1/videos", content=b"[]", headers={"content-type": "application/json"}), 400, "invalid_json")
    refused(client.post("/v1/videos", content=b"x", headers={"content-type": "text/plain"}), 415, "unsupported_media")
    for path in ("/v1/videos/characters", "/v1/videos/characters/x"):
        refused(client.post(path, json={}), 501, "not_implemented")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/videos/x", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/v1/videos", "GET, HEAD, POST"),
        ("PUT", "/v1/videos/edits", "POST"),
        ("OPTIONS", "/v1/studio/clips/trash", "POST"),
        ("PUT", "/v1/studio/clips/some_clip", "GET, HEAD, PATCH"),
        ("PUT", "/v1/studio/arena/pairs/0/vote", "POST"),
        ("DELETE", "/health", "GET, HEAD"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
        ("PUT", "/v1/videos/characters", "DELETE, GET, POST"),
        ("GET", "/v1/videos/x/cancel", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_answered_with_all_that_it_takes(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_the_list_has_pages(client: TestClient) -> None:
    ids = [created(client, seed=number)["id"] for number in range(3)]
    page = client.get("/v1/videos?limit=2").json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = client.get(f"/v1/videos?limit=2&after={page['last_id']}").json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    assert client.get("/v1/videos?order=asc&status=queued").json()["first_id"] == ids[0]
    refused(client.get("/v1/videos?after=video_x"), 400, "invalid_value", "after")
    refused(client.get("/v1/videos?limit=0"), 400, "invalid_value", "limit")


def test_waiting_jobs_are_changed_and_moved(client: TestClient) -> None:
    ids = [created(client, seed=number)["id"] for number in range(3)]
    changed = client.patch(f"/v1/videos/{ids[0]}", json={"prompt": "a lamp", "num_frames": 9, "seed": 4}).json()
    assert (changed["prompt"], changed["seconds"], changed["seed"]) == ("a lamp", "0.375", 4)
    moved = client.post(f"/v1/videos/{ids[2]}/move", json={"index": 0}).json()
    assert [job["id"] for job in moved["data"]] == [ids[2], ids[0], ids[1]]
    assert [job["id"] for job in client.get("/v1/queue").json()["data"]] == [ids[2], ids[0], ids[1]]
    client.post(f"/v1/videos/{ids[1]}/cancel")
    refused(client.patch(f"/v1/videos/{ids[1]}", json={"prompt": "x"}), 409, "video_not_queued", "video_id")
    refused(client.post(f"/v1/videos/{ids[1]}/move", json={"index": 0}), 409, "video_not_queued", "video_id")
    refused(client.patch(f"/v1/videos/{ids[0]}", json={"num_frames": 10}), 400, "invalid_value", "num_frames")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("n", "n of a job cannot be changed; what can be, while it waits: prompt, negative_prompt, seconds, size"),
        ("model", "model of a job cannot be changed; what can be"),
        ("image", "unknown field image; what can be, while it waits: prompt"),  # nothing here takes a picture
        ("colour", "unknown field colour; what can be, while it waits: prompt"),
        ("steps", "unknown field steps; use num_inference_steps"),
    ],
)
def test_a_change_that_there_is_none_says_what_can_be_changed(client: TestClient, field: str, said: str) -> None:
    answer = client.patch(f"/v1/videos/{created(client)['id']}", json={field: 2})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    assert error["message"].startswith(said)


def test_a_request_sent_twice_makes_one_job(client: TestClient) -> None:
    first, again = (client.post("/v1/videos", json=BALL, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/v1/videos", json={**BALL, "seed": 1}, headers={"Idempotency-Key": "k"})
    refused(other, 409, "idempotency_conflict")


def test_a_full_queue_answers_429(tmp_path: Path) -> None:
    from dataclasses import replace

    services = services_in(tmp_path)
    services.api = replace(services.api, room=Room(max_queued=1))
    services.worker = replace(services.worker, limits=RequestLimits(max_upload_bytes=2000))
    client = client_of(services)
    created(client)
    answer = client.post("/v1/videos", json=BALL)
    refused(answer, 429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1
    refused(client.post("/v1/videos", json={"prompt": "x" * 3000}), 413, "body_too_large")
    big = client.post(
        "/v1/videos", content=iter([b"x" * 1500, b"x" * 1500]), headers={"content-type": "application/json"}
    )
    refused(big, 413, "body_too_large")


def test_models_and_loras(client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["nano", "big"]
    assert client.get("/v1/models/nano").json()["sizes"]["height"] == 64
    refused(client.get("/v1/models/x"), 404, "model_not_found", "model_id")
    set_one = client.post("/v1/set_lora", json={"lora_nickname": "voice", "strength": 0.8, "target": "all"})
    assert set_one.json() == {"available": ["voice"], "loaded": ["voice:0.8"]}
    refused(
        client.post("/v1/set_lora", json={"lora_nickname": "x", "lora_path": "/etc/passwd"}),
        400, "invalid_value", "lora_path",
    )  # fmt: skip
    refused(client.post("/v1/set_lora", json={"lora_nickname": "x"}), 400, "invalid_value", "loras")
    assert client.post("/v1/unmerge_lora_weights").json()["loaded"] == []


@pytest.mark.parametrize(
    ("path", "fields", "param", "expected"),
    [
        ("/v1/set_lora", {"lora_nickname": "voice", "target": "transformer"}, "target", 'expected "all", or nothing'),
        ("/v1/set_lora", {"lora_nickname": "voice", "target": {"video": 1}}, "target", '"NAME:video=1,audio=0"'),
        ("/v1/set_lora", {"lora_nickname": {"voice": 1}}, "lora_nickname", 'expected "NAME"'),
        ("/v1/set_lora", {"lora_nickname": "voice", "strength": {"video": 1}}, "strength", "expected a number"),
        ("/v1/set_lora", {"lora_nickname": "voice", "lora_path": {"voice": 1}}, "lora_path", "expected the same name"),
        ("/v1/set_lora", {"loras": ["voice"]}, "loras", "use lora_nickname"),
        ("/v1/set_lora", {"lora": "voice"}, "lora", "use lora_nickname"),
        ("/v1/videos", {"loras": {"voice": 0.5}}, "loras", 'expected "NAME", "NAME:0.8" or "NAME:video=1,audio=0"'),
        ("/v1/videos", {"loras": [{"name": "voice"}]}, "loras", 'expected "NAME", "NAME:0.8" or'),
        ("/v1/videos", {"loras": ["voice:strong"]}, "loras", "expected a number, such as 0.8, or one for each part"),
        ("/v1/videos", {"loras": ["voice:video=1,audio"]}, "loras", "expected NAME=NUMBER, such as audio=0.5"),
    ],
)
def test_a_lora_of_the_wrong_form_is_answered_with_the_right_one(
    client: TestClient, path: str, fields: dict[str, Any], param: str, expected: str
) -> None:
    asked = {"prompt": "a ball", **fields} if path == "/v1/videos" else fields
    assert expected in refused(client.post(path, json=asked), 400, "invalid_value", param)


def test_a_lora_can_be_set_with_a_strength_for_each_part(client: TestClient) -> None:
    answer = client.post("/v1/set_lora", json={"lora_nickname": "voice:video=1,audio=0,expert=low"})
    assert answer.json()["loaded"] == ["voice:video=1,audio=0,expert=low"]


def test_health_waits_for_a_worker_and_metrics_count(client: TestClient, services: Services) -> None:
    assert client.get("/liveness").json() == {"status": "ok"}
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "no_worker")
    services.workers_come_with_jobs = lambda: True
    idle = client.get("/health")
    assert (idle.status_code, idle.json()["status"], idle.json()["workers"]) == (200, "ok", 0)
    services.workers_come = lambda: True
    assert client.get("/health").json() == {"status": "starting", "workers": 0, "reason": "a worker is being started"}
    maker = StubMaker()
    worker, thread = worker_thread(services.worker, maker)
    finished(client, created(client)["id"])
    assert client.get("/health").status_code == 200
    lines = client.get("/metrics").text.splitlines()
    assert 'phonofilm_jobs{status="completed"} 1.0' in lines
    assert 'phonofilm_http_responses_total{route="/v1/videos",status="200"} 1.0' in lines
    (each,) = [line for line in lines if line.startswith('phonofilm_seconds_per_step{model="nano"} ')]
    assert float(each.split()[-1]) >= 0.01
    worker.ask_to_stop()
    thread.join()


def test_the_api_describes_both_kinds_of_body_and_what_comes_next(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    create = described["paths"]["/v1/videos"]["post"]
    assert set(create["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert create["responses"]["200"]["links"]["getVideo"]["operationId"] == "getVideo"
    assert "400" in create["responses"]


def test_the_database_being_away_is_said_and_heals(
    client: TestClient, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    from sqlalchemy.exc import OperationalError

    broken = threading.Event()
    original = services.database.reader.connect

    def connect(*args: Any) -> Any:
        if broken.is_set():
            raise OperationalError("gone", None, Exception("gone"))
        return original(*args)

    services.database.reader.connect = connect  # type: ignore[method-assign]
    assert "phonofilm_database_up 1.0" in client.get("/metrics").text.splitlines()
    broken.set()
    answer = client.get("/v1/videos")
    refused(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"] == "2"
    health = client.get("/health")
    away = {"status": "degraded", "workers": 0, "reason": "the job database cannot be reached"}
    assert (health.status_code, health.json()) == (503, away)
    lines = client.get("/metrics").text.splitlines()
    assert "phonofilm_database_up 0.0" in lines
    assert 'phonofilm_http_responses_total{route="/v1/videos",status="503"} 1.0' in lines
    assert [line for line in lines if line.startswith("process_resident_memory_bytes ")]
    assert not [line for line in lines if line.startswith("phonofilm_jobs")], "not known, and not 0"
    broken.clear()
    with caplog.at_level("INFO", logger="phonofilm.serving.database"):
        assert client.get("/v1/videos").status_code == 200
    said = [one.getMessage() for one in caplog.records if "database" in one.getMessage()]
    assert said == [
        "the job database cannot be reached (OperationalError); it is asked again until it is back",
        "the job database is back",
    ]
    token = create_key(services.database, "watch", ["admin"])
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/metrics", headers=headers).status_code == 200
    broken.set()
    assert "phonofilm_database_up 0.0" in client.get("/metrics", headers=headers).text, "a key that was let in before"
    refused(client.get("/v1/videos", headers=headers), 503, "database_unavailable")
    refused(client.get("/metrics", headers={"Authorization": "Bearer other"}), 503, "database_unavailable")
    broken.clear()
    revoke_key(services.database, "watch")
    refused(client.get("/metrics", headers=headers), 401, "invalid_api_key")
    broken.set()
    refused(client.get("/metrics", headers=headers), 503, "database_unavailable")
