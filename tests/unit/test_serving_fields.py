"""Keyframes and voices over HTTP, what fields are called here, and lengths that are far too long."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.media_makers import flash_and_beep
from tests.serving_stub import FACTS
from tests.unit.serving_helpers import PNG, client_of, services_in

from phonofilm.media import save_clip
from phonofilm.serving.api.services import Services
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import Job
from phonofilm.serving.jobs.job_queue import find
from phonofilm.serving.jobs.roster import write_setting
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.worker.clip_job import options_of_job
from phonofilm.serving.worker.inputs_of import input_files
from phonofilm.writing.first_frame_options import FirstFrameOptions

DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
WAVE = b"RIFF\x24\x00\x00\x00WAVEfmt "


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = services_in(tmp_path)
    write_setting(services.database, "facts:nano", FACTS)
    return services


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services)


def job_made_by(services: Services, answer: Any) -> Job:
    assert answer.status_code == 200, answer.text
    job = find(services.database, answer.json()["id"], OPEN_ACCESS)
    assert job is not None
    return job


def refusal(client: TestClient, **fields: Any) -> tuple[str, str]:
    answer = client.post("/v1/videos", json={"prompt": "a ball", **fields})
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]["param"], answer.json()["error"]["message"]


def test_keyframes_and_a_voice_reach_the_worker_as_options(client: TestClient, services: Services) -> None:
    fields = {"prompt": "a ball", "image_fit": "letterbox"}
    files = {"keyframes[0.50]": PNG, "keyframes[1.25]": PNG, "voice": WAVE}
    as_json = {**fields, "keyframes": {"0.5": DATA_URL, "1.25": {"image_url": DATA_URL}}}
    as_json["voice"] = f"data:audio/wav;base64,{base64.b64encode(WAVE).decode()}"
    for answer in (
        client.post("/v1/videos", data=fields, files=files),
        client.post("/v1/videos", json=as_json),
        client.post("/v1/videos", data={**fields, "keyframes[0.5]": DATA_URL}, files={"keyframes[1.25]": PNG, "voice": WAVE}),
    ):  # fmt: skip
        job = job_made_by(services, answer)
        with ExitStack() as stack:
            paths = input_files(job.request, services.worker, services.store, stack, PublicHttp())
            options = options_of_job(job, paths, services.worker)
        folder = Path(services.worker.store).absolute() / "inputs" / job.id
        assert sorted(options.keyframe or ()) == [
            f"0.5={folder}/keyframe-0.5.png", f"1.25={folder}/keyframe-1.25.png",
        ]  # fmt: skip
        assert (options.voice, options.image_fit) == (folder / "voice.wav", "letterbox")


@pytest.mark.parametrize(
    ("keyframes", "said"),
    [
        ({"soon": DATA_URL}, "'soon' is no time in seconds"),
        ({"-1": DATA_URL}, "'-1' is no time in seconds"),
        ({"nan": DATA_URL}, "'nan' is no time in seconds"),
        ({"1": "/etc/passwd"}, "paths are not taken"),
        ({"1": DATA_URL, "1.0": DATA_URL}, "more than one was given"),
        ({str(number): DATA_URL for number in range(17)}, "more than 16"),
        ({"1": "data:audio/wav;base64," + base64.b64encode(WAVE).decode()}, "expected a PNG"),
    ],
)
def test_keyframes_that_are_none_are_refused_and_leave_no_file(
    client: TestClient, services: Services, keyframes: dict[str, str], said: str
) -> None:
    param, message = refusal(client, keyframes=keyframes)
    assert param == "keyframes"
    assert said in message
    assert services.store.folders("inputs") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"keyframes": ["0"]}, "keyframes: a picture at 0 s is the first frame; send it as input_reference"),
        ({"keyframes": ["0.01"]}, "keyframes: a picture at 0 s is the first frame; send it as input_reference"),
        (
            {"keyframes": ["99"]},
            "keyframes: keyframe at 99 s is outside the clip, which is 2.042 s long; its last frame is at 2.000 s",
        ),
        (
            {"keyframes": ["2.04"]},
            "keyframes: keyframe at 2.04 s is outside the clip, which is 2.042 s long; its last frame is at 2.000 s",
        ),
        ({"keyframes": ["1.5"], "num_frames": 25}, "which is 1.042 s long"),
        ({"keyframes": ["9"], "seconds": 8}, "which is 8.042 s long"),
        ({"keyframes": ["1", "1.01"]}, "two keyframes are closer than 0.17 s"),
        ({"keyframes": ["2"], "last_frame": DATA_URL}, "a keyframe and last_frame are closer than 0.17 s"),
    ],
)
def test_keyframes_that_the_clip_has_no_place_for_are_refused(
    client: TestClient, services: Services, fields: dict[str, Any], said: str
) -> None:
    times = fields["keyframes"]
    param, message = refusal(client, **{**fields, "keyframes": dict.fromkeys(times, DATA_URL)})
    assert (param, said in message) == ("keyframes", True), message
    assert services.store.folders("inputs") == []
    job = job_made_by(services, client.post("/v1/videos", json={"prompt": "a", "keyframes": {"2": DATA_URL}}))
    assert list(job.request.inputs) == ["keyframe:2"]


def test_the_first_frame_is_no_keyframe_before_the_model_is_known_either(tmp_path: Path) -> None:
    param, message = refusal(client_of(services_in(tmp_path)), keyframes={"0.0": DATA_URL})
    assert (param, message.endswith("send it as input_reference")) == ("keyframes", True)


@pytest.mark.parametrize(
    ("loras", "said"),
    [
        (["fast:foo=1"], "LoRA fast: strength is given for 'foo'; expected one of"),
        (["fast:1e999"], "LoRA fast: strength inf is not a finite number"),
        (["fast:video=1,video=2"], "LoRA fast: 'fast:video=1,video=2' gives video twice"),
        (["fast:expert=both"], "LoRA fast: 'both' is no part of the model"),
        (["fast", "fast:0.5"], "the LoRA fast was given twice"),
    ],
)
def test_strengths_that_no_lora_can_have_are_refused_by_the_name_that_was_sent(
    tmp_path: Path, loras: list[str], said: str
) -> None:
    client = client_of(services_in(tmp_path, loras={"fast": "/srv/fast-1.safetensors"}))
    param, message = refusal(client, loras=loras)
    assert (param, said in message, ".safetensors" in message) == ("loras", True, False), message


def test_a_given_video_keeps_its_length_and_rate(client: TestClient) -> None:
    for name, value in (("seconds", 1), ("num_frames", 25), ("fps", 24)):
        data, files = {"prompt": "a", name: value}, {"video": MP4}
        answer = client.post("/v1/videos", data=data, files=files)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, name), error
        assert error["message"] == f"{name} follows the given video; leave it out"


def test_a_remix_takes_keyframes_along(client: TestClient, services: Services) -> None:
    from phonofilm.serving.jobs.claims import Claims

    first = job_made_by(services, client.post("/v1/videos", data={"prompt": "a"}, files={"keyframes[1]": PNG}))
    claims = Claims(services.database, "worker")
    held = claims.claim(["nano"], [], 60)
    assert held is not None
    assert claims.complete(held, [], {}, 0, 60)
    again = job_made_by(services, client.post(f"/v1/videos/{first.id}/remix", json={"prompt": "b"}))
    assert again.request.inputs == {"keyframe:1": f"inputs/{again.id}/keyframe-1.png"}


def test_a_reference_takes_no_key_that_it_does_not_know(client: TestClient) -> None:
    body = {"prompt": "A ball.", "video": {"id": "video_0", "index": 1}}
    answer = client.post("/v1/videos/extensions", json=body)
    assert answer.status_code == 400
    assert "unknown key, index" in answer.json()["error"]["message"]


def test_more_clips_than_a_request_may_have_are_refused_before_there_is_a_seed_for_each(client: TestClient) -> None:
    # A list of 2^63 seeds would fill the memory, and with it end the server, long before it could be counted.
    for field in ("n", "num_outputs_per_prompt"):
        assert refusal(client, **{field: 2**63}) == ("n", "9223372036854775808 clips; at most 8 in one request")
    assert refusal(client, seed=list(range(9))) == ("n", "9 clips; at most 8 in one request")
    assert refusal(client, seed=[]) == (
        "seed",
        "the list of seeds is empty; give one for each clip, or leave it out",
    )


@pytest.mark.parametrize(
    ("method", "path", "fields", "said"),
    [
        ("POST", "", {"prompt": "a", "sed": 1}, "unknown field sed; use seed"),
        ("POST", "", {"prompt": "a", "xyz": 1}, "unknown field xyz"),
        ("POST", "/edits", {"prompt": "a", "video": {"id": "video_0"}, "strat": 1}, "unknown field strat; use start"),
        ("PATCH", "/video_0", {"num_inference_step": 1}, "unknown field num_inference_step; use num_inference_steps"),
        ("PATCH", "/video_0", {"lora": "voice"}, "unknown field lora; use loras"),
        ("PATCH", "/video_0", {"duration": 1}, "unknown field duration; use seconds"),
        ("POST", "/video_0/move", {"idnex": 1}, "unknown field idnex; use index"),
        ("POST", "/video_0/remix", {"prompt": "a", "promt": "b"}, "unknown field promt; use prompt"),
        ("POST", "/video_0/remix", {"prompt": "a", "seed": 1}, "unknown field seed"),
    ],
)
def test_no_field_is_ignored_without_a_word(
    client: TestClient, method: str, path: str, fields: dict[str, Any], said: str
) -> None:
    answer = client.request(method, f"/v1/videos{path}", json=fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["message"], error["param"]) == (400, said, said.split()[2].strip(";"))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"{bad", "the body is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (
            b'{"prompt": "\xff"}',
            "the body is no JSON: 'utf-8' codec can't decode byte 0xff in position 12: invalid start",
        ),
        (b"[" * 100_000, "the body is no JSON: "),
        (b"[1]", "the body must be a JSON object"),
        (b"", "the body "),
    ],
)
def test_every_route_says_the_same_of_a_body_that_cannot_be_read(client: TestClient, sent: bytes, said: str) -> None:
    routes = [("POST", "/v1/videos"), ("PATCH", "/v1/videos/video_0"), ("POST", "/v1/set_lora")]
    routes += [("POST", "/v1/videos/video_0/move"), ("POST", "/v1/videos/video_0/remix")]
    for method, path in routes:
        answer = client.request(method, path, content=sent, headers={"content-type": "application/json"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_json", None)
        assert error["message"].startswith(said)
    other = client.patch("/v1/videos/video_0", content=sent, headers={"content-type": "text/plain"})
    assert other.json()["error"]["code"] == ("unsupported_media" if sent else "invalid_json")


def test_names_of_the_command_line_are_answered_with_ours(client: TestClient) -> None:
    assert refusal(client, steps=4) == ("steps", "unknown field steps; use num_inference_steps")
    assert refusal(client, lora="a") == ("lora", "unknown field lora; use loras")


def test_far_too_long_is_said_in_the_words_of_the_request(client: TestClient) -> None:
    for seconds, said in ((1e9, "1e+09"), (1e300, "1e+300"), (61, "61")):
        assert refusal(client, seconds=seconds) == ("seconds", f"seconds: {said} s; at most 60 s in one request")
    assert refusal(client, prompt="0-8: a ball; 8-90: a lamp")[1] == "seconds: 90 s; at most 60 s in one request"
    assert refusal(client, num_frames=4801)[1] == "num_frames: 4801 frames are 200.042 s; at most 60 s in one request"
    assert client.post("/v1/videos", json={"prompt": "a", "seconds": 60}).status_code == 200, (
        "its last frame reaches beyond"
    )


def test_the_length_of_parts_is_kept(client: TestClient, services: Services) -> None:
    job = job_made_by(services, client.post("/v1/videos", json={"prompt": "a", "seconds": 8, "part_seconds": 2}))
    assert job.request.options["part_seconds"] == 2


def test_a_first_frame_is_drawn_where_the_operator_named_a_model_and_the_clip_has_no_beginning(tmp_path: Path) -> None:
    services = services_in(tmp_path, first_frames=FirstFrameOptions("some/model"))
    client = client_of(services)
    made = client.post("/v1/videos", data={"prompt": "a ball", "draw_first_frame": "true"})
    assert job_made_by(services, made).request.draw_first_frame
    for beginning in ({"input_reference": DATA_URL}, {"video": DATA_URL}):
        param, message = refusal(client, draw_first_frame=True, **beginning)
        assert (param, f"begins with {next(iter(beginning))} already" in message) == ("draw_first_frame", True)
    uploaded = client.post("/v1/videos", data={"prompt": "x", "draw_first_frame": "1"}, files={"input_reference": PNG})
    assert uploaded.json()["error"]["param"] == "draw_first_frame"


def test_words_and_numbers_are_not_taken_for_one_another_where_the_schema_says_so(client: TestClient) -> None:
    for path, body in (
        ("/v1/studio/clips/purge", {"ids": [], "everything": 0}),
        ("/v1/studio/clips/video_x_0/variations", {"seeds": [False]}),
    ):
        assert client.post(path, json=body).status_code == 400, path
    assert client.patch("/v1/studio/clips/video_x_0", json={"favourite": 1}).status_code == 400
    assert client.get("/v1/studio/arena/pairs/x/vote").status_code == 405


def test_a_form_whose_end_was_lost_is_refused_whole(client: TestClient) -> None:
    parts = "--B\r\nContent-Disposition: form-data; name={}\r\n\r\n{}"
    kind = {"content-type": "multipart/form-data; boundary=B"}
    for path in ("/v1/videos", "/v1/studio/imports"):
        for name, end in (("seconds", ""), ("seconds", "\r\n--B-"), ("input_reference; filename=a.png", "\r\n--B")):
            sent = parts.format("prompt", "a ball\r\n") + parts.format(name, 1) + end
            answer = client.post(path, content=sent, headers=kind)
            assert (answer.status_code, "no closing boundary" in answer.json()["error"]["message"]) == (400, True)
    assert client.get("/v1/videos").json()["data"] == []


def test_settings_that_can_never_work_are_refused_before_they_wait(client: TestClient) -> None:
    never: dict[str, tuple[Any, ...]] = {
        "cache": ("x", "easy:-1"),
        "solver": ("x",),
        "boundary_ratio": (-1, 1.1),
        "video_shift": (0, -1, 1e308),
        "audio_shift": (1e308,),
        "guidance_scale": (1e308, 1e38),
        "audio_guidance_scale": (-1e308,),
        "modality_scale": (1e308, "NaN", "inf", "2,inf"),
        "guidance_interval": ("0.6:0.2",),
        "overlap_frames": (2**63, 4),
        "part_seconds": (1e-320,),
    }
    for name, values in never.items():
        for value in values:
            assert refusal(client, seconds=8, **{name: value})[0] == name
    assert client.get("/v1/videos").json()["data"] == []


def test_true_and_foreign_digits_are_no_numbers(client: TestClient) -> None:
    for name in ("fps", "num_frames", "seed", "seconds", "n", "priority"):
        assert refusal(client, **{name: True})[0] == name
    assert refusal(client, seed=[True])[0] == "seed"
    assert refusal(client, fps="\u0661")[0] == "fps"


def test_a_stretch_that_the_clip_does_not_have_is_refused_in_the_fields_that_were_sent(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    source = job_made_by(services, client.post("/v1/videos", json={"prompt": "a ball"}))
    claims = Claims(services.database, "a")
    held = claims.claim(["nano"], [], 60)
    assert held is not None
    (tmp_path / "film.mp4").write_bytes(MP4)
    services.store.put(f"outputs/{source.id}/1-0-video.mp4", tmp_path / "film.mp4")
    outputs = [{"video": f"outputs/{source.id}/1-0-video.mp4"}]
    assert claims.complete(held, outputs, {"size": "64x64", "seconds": 49 / 24, "fps": 24.0, "seeds": [1]}, 1, None)
    base = {"prompt": "a lamp", "video": {"id": source.id}}
    for stretch, param, said in (
        ({"start": 2, "end": 1}, "end", "end: 1 s is not after 2 s, where the stretch starts"),
        ({"start": 1, "end": 2.1}, "end", "end: 2.1 s is outside the clip, which is 2.042 s long"),
        ({"start": 5, "end": 6}, "start", "start: 5 s is outside the clip, which is 2.042 s long"),
        (
            {"retake": "1:3"},
            "retake",
            "retake 1:3 is not a stretch of a clip of 2.042 s; use seconds, start before end",
        ),
        ({"retake": [1.5, 1]}, "retake", "retake: 1 s is not after 1.5 s, where the stretch starts"),
        ({"retake": "0:0.5; 1:3=Rain"}, "retake", "retake 1:3 is not a stretch of a clip of 2.042 s"),
        ({"start": 1}, "end", "say which stretch is made anew"),
        ({"end": 1}, "start", "say which stretch is made anew"),
        ({"start": 0, "end": 1, "retake": "0:1"}, "retake", "give start and end, or retake"),
    ):
        answer = client.post("/v1/videos/edits", json={**base, **stretch})
        assert answer.status_code == 400, stretch
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, "invalid_value"), stretch
        assert error["message"].startswith(said)
        planned = client.post("/v1/studio/plan", json={**base, **stretch, "task": "edit"}).json()["refused"]
        assert planned == [{"message": error["message"], "param": param, "code": "invalid_value"}]
    assert client.get("/v1/queue").json()["data"] == []
    assert not any(services.store.files("inputs", name) for name, _ in services.store.folders("inputs"))
    waiting = client.post("/v1/videos/edits", json={**base, "start": 1, "end": 49 / 24})
    assert waiting.status_code == 200, waiting.text
    changed = client.patch(f"/v1/videos/{waiting.json()['id']}", json={"retake": "1:3"})
    assert changed.json()["error"]["param"] == "retake"
    client.delete(f"/v1/videos/{source.id}")  # its copy is there still
    assert client.patch(f"/v1/videos/{waiting.json()['id']}", json={"prompt": "a bell"}).status_code == 200


def test_a_clip_that_cannot_be_cut_is_refused_without_the_servers_folders(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    save_clip(flash_and_beep(side=64), tmp_path / "whole.mp4")
    sent = {"video": ("a.mp4", (tmp_path / "whole.mp4").read_bytes()[:300], "video/mp4")}
    answer = client.post("/v1/videos/extensions", data={"prompt": "a", "continue_at": "0.5"}, files=sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "continue_at")
    assert error["message"].startswith("continue_at: video ")
    assert str(tmp_path) not in error["message"]
    assert list((tmp_path / "files" / "inputs").iterdir()) == []
    services.close()
