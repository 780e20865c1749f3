"""Bodies that would cost a server too much, or that hold what only Python reads as text or as a number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message
from tests.unit.serving_helpers import client_of, services_in

from phonofilm.errors import InputError
from phonofilm.generation.films.retakes import parse_retakes
from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.guard import _Body
from phonofilm.serving.settings import RequestLimits

MANY = b"{}," * 100_001 + b"1]}"
JSON = {"content-type": "application/json"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    services = services_in(tmp_path)
    yield client_of(services)
    services.close()


ROUTES = ["/v1/videos", "/v1/set_lora", "/v1/studio/plan", "/v1/studio/clips/trash"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("is_sent_in_pieces", [False, True])
def test_json_of_too_many_values_is_refused_before_it_is_read(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, route: str, is_sent_in_pieces: bool
) -> None:
    body = b'{"prompt":"a","x":[' + MANY
    monkeypatch.setattr("json.loads", lambda *_, **__: pytest.fail("it was read"))
    answer = client.post(route, content=iter([body[:1000], body[1000:]]) if is_sent_in_pieces else body, headers=JSON)
    monkeypatch.undo()
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the body has more than 100,000 values (commas are counted); send fewer"


def test_a_body_of_too_many_values_is_received_whole_so_that_its_client_reads_why(tmp_path: Path) -> None:
    pieces: list[Message] = [{"type": "http.request", "body": MANY, "more_body": True} for _ in range(3)]
    pieces.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return pieces.pop(0)

    services = services_in(tmp_path)
    with pytest.raises(ApiError):
        asyncio.run(_Body(receive, services, is_form=False).receive())
    services.close()
    assert pieces == []


def test_json_in_a_form_is_bounded_too_and_a_files_commas_are_no_values(client: TestClient) -> None:
    fields = {"prompt": "a", "keyframes": '{"x":[' + MANY.decode()}
    answer = client.post("/v1/videos", data=fields, files={"audio": b""})
    assert answer.status_code == 400
    assert "keyframes has more than 100,000 values" in answer.json()["error"]["message"]
    answer = client.post("/v1/videos", data={"prompt": "a"}, files={"input_reference": b"," * 200_000})
    assert "100,000" not in answer.text


def test_a_body_that_is_too_large_is_said_as_such_whoever_reads_it(tmp_path: Path) -> None:
    services = services_in(tmp_path, limits=RequestLimits(max_upload_bytes=1000))
    pieces = iter([b'{"index":"', b"a" * 1000, b'"}'])
    answer = client_of(services).post("/v1/videos/video_0/move", content=pieces, headers=JSON)
    services.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", "1_0"),
        ("seed", "1_0"),
        ("seed", ["1_0"]),
        ("n", "1_0"),
        ("fps", "2_4"),
        ("modality_scale", "1_0"),
        ("modality_scale", ["1_0"]),
        ("modality_scale", "1_0,2"),
        ("guidance_interval", "0_0:1"),
        ("keyframes", {"1_0": "data:image/png;base64,"}),
        ("loras", "fast:0_8"),
        ("loras", "fast:video=0_8"),
        ("priority", " 1_0 "),
    ],
)
def test_digits_with_underscores_are_no_number(tmp_path: Path, field: str, value: Any) -> None:
    services = services_in(tmp_path, loras={"fast": "fast.safetensors"})
    answer = client_of(services).post("/v1/videos", json={"prompt": "a ball", field: value})
    services.close()
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_no_door_takes_underscores_and_texts_keep_theirs(client: TestClient) -> None:
    for address in ("/v1/videos?limit=1_0", "/v1/studio/clips?limit=1_0", "/v1/studio/clips/clip_0/frame?at=1_0"):
        answer = client.get(address)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value"), address
        assert "'1_0' has underscores" in answer.json()["error"]["message"]
    retake = {"prompt": "a", "start": "1_0", "end": 2, "video": {"id": "video_0"}}
    assert client.post("/v1/videos/edits", json=retake).json()["error"]["param"] == "start"
    with pytest.raises(InputError):
        parse_retakes("1_0:20")
    assert client.patch("/v1/videos/video_0", json={"seed": "1_0"}).json()["error"]["param"] == "seed"
    strength = {"lora_nickname": "fast", "strength": "0_8"}
    assert client.post("/v1/set_lora", json=strength).json()["error"]["param"] == "strength"
    assert client.post("/v1/videos", json={"prompt": "1_0", "negative_prompt": "2_0"}).status_code == 200


def test_text_of_a_form_is_utf_8_or_refused(client: TestClient) -> None:
    """As in JSON; it was taken as Latin-1, and so was the UTF-8 of a plain form that was not written with %."""
    prompt = "Zoë runs"
    plain = {"content-type": "application/x-www-form-urlencoded"}
    parts = {"content-type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
    for text, status in ((prompt.encode(), 200), (prompt.encode("latin-1"), 400)):
        for content, headers in ((b"prompt=" + text, plain), (head + text + b"\r\n--x--\r\n", parts)):
            answer = client.post("/v1/videos", content=content, headers=headers)
            assert answer.status_code == status
            if status == 200:
                assert answer.json()["prompt"] == prompt
            else:
                assert "the form cannot be read: prompt is no text in UTF-8" in answer.json()["error"]["message"]
    assert client.post("/v1/videos", content=b"prompt=Zo%EB", headers=plain).status_code == 400
    assert client.post("/v1/videos", content=b"prompt=Zo%C3%AB+runs", headers=plain).json()["prompt"] == prompt
    latin = {"content-type": "multipart/form-data; boundary=x; charset=iso-8859-1"}
    answer = client.post("/v1/videos", content=head + prompt.encode("latin-1") + b"\r\n--x--\r\n", headers=latin)
    assert answer.json()["prompt"] == prompt
    no_text = {"content-type": "multipart/form-data; boundary=x; charset=rot13"}
    assert client.post("/v1/videos", content=head + b"a\r\n--x--\r\n", headers=no_text).status_code == 400


def test_a_prompt_that_was_sent_empty_is_called_empty_and_not_missing(client: TestClient) -> None:
    made = client.post("/v1/videos", json={"prompt": "a", "seconds": 2}).json()["id"]
    empty: dict[str, Any] = {"json": {"prompt": ""}}
    for address, sent in (
        ("/v1/videos", empty),
        ("/v1/videos", {"data": {"prompt": "", "seconds": ""}}),
        ("/v1/videos", {"files": {"prompt": (None, "")}}),
        (f"/v1/videos/{made}/remix", empty),
    ):
        error = client.post(address, **sent).json()["error"]
        assert (error["param"], error["message"]) == (
            "prompt",
            "the prompt is empty; say what should be seen and heard",
        )
    assert client.post("/v1/videos", json={}).json()["error"]["message"] == "prompt: Field required"
    assert client.post("/v1/videos", data={"prompt": "a", "seconds": ""}).status_code == 200, "what was left open"
