"""Bodies that would cost a server too much, or that hold what only Python reads as text or as a number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.unit.serving_helpers import client_of, services_in

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
