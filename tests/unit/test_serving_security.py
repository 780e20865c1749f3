"""What strangers may try: keys, other keys' jobs, names, sizes, kinds of file, addresses, pages in browsers, log lines."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import http.server
import ipaddress
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from fastapi.testclient import TestClient
from PIL import Image
from tests.serving_stub import StubMaker, worker_thread
from tests.unit.serving_helpers import PNG, ask, client_of, new_database, services_in

from phonofilm.errors import InputError, MediaError
from phonofilm.generation.known_prompts import warn_if_unfamiliar
from phonofilm.generation.known_words import known_words
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.geometry import ClipGeometry
from phonofilm.lora.reading import read_lora
from phonofilm.media.pixels import shown_size, to_rgb
from phonofilm.media.wav import write_wav
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.hub import PACKAGED_WEIGHTS
from phonofilm.serving.api.answers import wait_for
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.videos import events_of_job
from phonofilm.serving.callbacks import MOST_TO_ONE, Callbacks
from phonofilm.serving.database.engines import open_database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.database.tables import API_KEY, JOB
from phonofilm.serving.jobs.job import JobRequest
from phonofilm.serving.jobs.roster import READY, WorkerReport, remove_worker, report_worker
from phonofilm.serving.logs import QUOTING, JsonLines, TextLines, log_to_stderr
from phonofilm.serving.security.api_keys import KeyLimits, create_key, describe_key, list_keys, revoke_key
from phonofilm.serving.security.browser_sessions import access_of_session, start_session
from phonofilm.serving.security.callback_signing import signed_headers, signing_key
from phonofilm.serving.security.clip_limits import check_clip, check_files
from phonofilm.serving.security.public_http import FetchError, PublicHttp, RefusedAddress, is_public
from phonofilm.serving.security.sniffing import check_kind, sniff
from phonofilm.serving.server import ServerSettings, serve_until_stopped
from phonofilm.serving.settings import RequestLimits, WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.store.interface import StoreError
from phonofilm.serving.work_options import WorkOptions, worker_settings
from phonofilm.serving.worker.inputs_of import input_files
from phonofilm.untrusted import printable

BALL = {"prompt": "a ball"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path)


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services)


def with_key(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_first_key_closes_the_door(client: TestClient, services: Services) -> None:
    assert client.post("/v1/videos", json=BALL, headers=with_key("any")).status_code == 200
    token = create_key(services.database, "studio")
    for headers in ({}, with_key("wrong"), with_key(token[:-1]), {"Authorization": f"Basic {token}"}):
        answer = client.post("/v1/videos", json=BALL, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert client.post("/v1/videos", json=BALL, headers=with_key(token)).status_code == 200
    revoke_key(services.database, "studio")
    assert client.get("/v1/videos", headers=with_key(token)).status_code == 401
    assert client.get("/v1/videos").status_code == 401  # revoking the last key does not open the door again
    assert client.get("/liveness").status_code == 200


def test_a_key_is_kept_as_a_hash_alone(services: Services) -> None:
    token = create_key(services.database, "studio")
    with services.database.read() as connection:
        row = connection.execute(API_KEY.select()).mappings().one()
    assert token not in str(dict(row))
    assert "token_hash" not in list_keys(services.database)[0]
    with pytest.raises(InputError, match="there is a valid key named 'studio'; revoke it first"):
        create_key(services.database, "studio")
    with pytest.raises(InputError, match="scope"):
        create_key(services.database, "other", ["root"])


@pytest.mark.parametrize("name", ["a\nadmin pf-x... admin valid", "\x1b[2Jx", "a\tb", "\u202etoor", "\x9b31m", "  "])
def test_a_keys_name_stays_on_its_line(services: Services, name: str) -> None:
    with pytest.raises(InputError) as error:
        create_key(services.database, name)
    assert printable(str(error.value)) == str(error.value)
    assert "\n" not in str(error.value)
    assert list_keys(services.database) == []


def test_a_name_that_an_old_database_holds_is_shown_as_it_can_be_revoked(services: Services) -> None:
    create_key(services.database, "old")
    with services.database.write() as connection:
        connection.execute(API_KEY.update().values(name="old\n\x1b[2J"))
    (row,) = list_keys(services.database)
    line = describe_key(row)
    assert line.startswith(r"old\n\x1b[2J pf-")
    assert line.isprintable()
    revoke_key(services.database, r"old\n\x1b[2J")
    assert list_keys(services.database)[0]["revoked_at"] is not None
    with pytest.raises(InputError, match="no valid key"):
        revoke_key(services.database, "old\n\x1b[2J")


def test_a_key_is_rotated_and_its_jobs_stay(client: TestClient, services: Services) -> None:
    old = create_key(services.database, "studio")
    job = client.post("/v1/videos", json=BALL, headers=with_key(old)).json()["id"]
    signed_in = start_session(services.database, old)
    assert signed_in is not None
    revoke_key(services.database, "studio")
    new = create_key(services.database, "studio", ["read"])
    assert client.get(f"/v1/videos/{job}", headers=with_key(new)).status_code == 200
    assert client.post("/v1/videos", json=BALL, headers=with_key(new)).status_code == 403, "the new key's scopes"
    assert client.get(f"/v1/videos/{job}", headers=with_key(old)).status_code == 401
    assert access_of_session(services.database, signed_in) is None, "a browser of the old key"
    (row,) = list_keys(services.database)
    assert (row["scopes"], row["revoked_at"], row["hint"]) == (["read"], None, new[:7])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_polls_that_find_all_well_are_not_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    with caplog.at_level(logging.INFO, logger="phonofilm"):
        assert client.request(method, "/liveness").status_code == 200
        assert client.request(method, "/v1/videos/video_0").status_code == 404
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_health_is_logged_when_it_changes_and_not_at_every_poll(
    client: TestClient, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="phonofilm"):
        for there in (False, False, True, True, False, False):
            if there:
                report_worker(services.database, WorkerReport("a", READY, ["nano"], 0.0))
            else:
                remove_worker(services.database, "a")
            assert client.get("/health").status_code == (200 if there else 503)
    lines = [(record.levelname, record.getMessage().split("route=")[1][:18]) for record in caplog.records]
    assert lines == [
        ("WARNING", "/health status=503"),
        ("INFO", "/health status=200"),
        ("WARNING", "/health status=503"),
    ]


def test_a_server_that_is_well_from_the_start_logs_no_health(
    client: TestClient, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    report_worker(services.database, WorkerReport("a", READY, ["nano"], 0.0))
    with caplog.at_level(logging.INFO, logger="phonofilm"):
        assert client.get("/health").status_code == 200
    assert caplog.records == []


def test_a_revoked_keys_stream_of_a_job_ends(services: Services) -> None:
    token = create_key(services.database, "studio", ["read", "write"])
    admitted = services.keyring.look_up(token)
    assert admitted is not None
    job = ask(services.database, access=admitted.access)

    async def kinds() -> list[str]:
        stream = events_of_job(services, admitted.access, job, "http://testserver", token, None)
        found = [(await anext(stream))["event"]]
        revoke_key(services.database, "studio")
        return found + [event["event"] async for event in stream]

    assert asyncio.run(asyncio.wait_for(kinds(), 60)) == ["status"]


def test_a_key_that_was_revoked_while_its_clip_was_made_is_given_no_file(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.keyring.seconds = 0.0
    client, token = client_of(services), create_key(services.database, "studio", ["read", "write"])
    worker, thread = worker_thread(services.worker, StubMaker())
    kept = client.post("/v1/videos/sync", json=BALL, headers=with_key(token))
    assert kept.status_code == 200

    async def waited(*asked: Any) -> Any:
        job = await wait_for(*asked)
        revoke_key(services.database, "studio")
        return job

    monkeypatch.setattr("phonofilm.serving.api.creating.wait_for", waited)
    answer = client.post("/v1/videos/sync", json=BALL, headers=with_key(token))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    worker.ask_to_stop()
    thread.join()


def test_scopes_say_what_a_key_may_do(client: TestClient, services: Services) -> None:
    reader, writer = (with_key(create_key(services.database, scope, [scope])) for scope in ("read", "write"))
    assert client.post("/v1/videos", json=BALL, headers=reader).status_code == 403
    assert client.get("/v1/videos", headers=reader).status_code == 200
    assert client.get("/v1/videos", headers=writer).status_code == 403
    for path in ("/v1/set_lora", "/v1/unmerge_lora_weights"):
        assert client.post(path, json={"lora_nickname": "x"}, headers=writer).status_code == 403
    assert client.get("/metrics", headers=reader).status_code == 403
    early = client.post("/v1/videos", json={**BALL, "priority": -1}, headers=writer)
    assert (early.status_code, early.json()["error"]["param"]) == (403, "priority")


def test_a_move_to_a_priority_that_the_key_may_not_ask_for_is_refused(client: TestClient, services: Services) -> None:
    mine, admin = (
        with_key(create_key(services.database, name, [name], KeyLimits(best_priority=best)))
        for name, best in (("write", 0), ("admin", -5))
    )
    first, second = (client.post("/v1/videos", json=BALL, headers=mine).json()["id"] for _ in range(2))
    assert client.patch(f"/v1/videos/{first}", json={"priority": -5}, headers=admin).status_code == 200
    move = f"/v1/videos/{second}/move"
    error = client.post(move, json={"index": 0}, headers=mine).json()["error"]
    assert error == {
        "message": "place 0 has priority -5; this key's best priority is 0",
        "type": "permission_error",
        "param": "index",
        "code": "insufficient_scope",
    }
    moved = client.post(move, json={"index": 0}, headers=admin).json()["data"]
    assert [(job["id"], job["priority"]) for job in moved] == [(second, -5), (first, -5)]


def test_another_keys_job_does_not_exist(client: TestClient, services: Services) -> None:
    mine, yours, admin = (
        with_key(create_key(services.database, name, scopes))
        for name, scopes in (("mine", ["read", "write"]), ("yours", ["read", "write"]), ("admin", ["admin"]))
    )
    video = client.post("/v1/videos", json=BALL, headers=mine).json()["id"]
    requests: list[tuple[str, str, Any]] = [
        ("GET", f"/v1/videos/{video}", None),
        ("GET", f"/v1/videos/{video}/content", None),
        ("GET", f"/v1/videos/{video}/events", None),
        ("POST", f"/v1/videos/{video}/cancel", None),
        ("POST", f"/v1/videos/{video}/remix", BALL),
        ("POST", f"/v1/videos/{video}/move", {"index": 0}),
        ("PATCH", f"/v1/videos/{video}", BALL),
        ("DELETE", f"/v1/videos/{video}", None),
        ("POST", "/v1/videos/extensions", {**BALL, "video": {"id": video}}),
        ("POST", "/v1/videos/edits", {**BALL, "video": {"id": video}, "start": 0, "end": 1}),
    ]
    for method, path, body in requests:
        answer = client.request(method, path, json=body, headers=yours)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_not_found"), path
    assert client.get("/v1/videos", headers=yours).json()["data"] == []
    assert client.get("/v1/queue", headers=yours).json()["data"] == []
    assert client.get(f"/v1/videos?after={video}", headers=yours).status_code == 400
    assert client.get(f"/v1/videos/{video}", headers=admin).status_code == 200


def test_elsewhere_the_server_listens_only_with_a_key(tmp_path: Path) -> None:
    worker = WorkerSettings(
        models={"nano": "nano"}, database_url=f"sqlite:///{tmp_path}/jobs.db", store=str(tmp_path / "files")
    )
    with pytest.raises(InputError, match="no key yet"):
        serve_until_stopped(ServerSettings(worker, host="0.0.0.0", port=0))


def test_several_workers_of_one_machine_do_not_get_the_same_gpus(tmp_path: Path) -> None:
    url, store = f"sqlite:///{tmp_path}/jobs.db", str(tmp_path / "files")
    shared = WorkerSettings({"nano": "nano"}, url, store, HardwareOptions(gpus=2))
    with pytest.raises(InputError, match=r"would share GPUs 0 to 1.*CUDA_VISIBLE_DEVICES"):
        serve_until_stopped(ServerSettings(shared, port=0, workers=2))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Host": "localhost.evil.example"},
    ],
)
def test_pages_in_a_browser_cannot_use_an_open_server(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/videos", data=BALL, headers=headers).status_code == 403
    assert client.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "video_0%00",
        "video_0%7f",
        "video_%ed%a0%80",
        "x" * 5000,
        "'; DROP TABLE job;--",
    ],
)
def test_names_lead_nowhere(client: TestClient, name: str) -> None:
    for path in (f"/v1/videos/{name}", f"/v1/videos/{name}/content"):
        assert client.get(path).status_code in (404, 405)
    assert client.get("/v1/videos").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["../x", "outputs/../../x", "outputs/a/../b", "/etc/passwd", "outputs/a", "outputs/a/.hidden", "inputs/a/b/c"],
)
def test_the_store_keeps_to_its_folder(tmp_path: Path, name: str) -> None:
    store = FolderStore(tmp_path / "files")
    for use in (store.size, store.delete, lambda one: list(store.read(one, 0, 1))):
        with pytest.raises(StoreError):
            use(name)
    with pytest.raises(StoreError):
        store.put(name, Path(__file__))


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        b"<html>",
        b"PK\x03\x04" + bytes(60),
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"ffconcat version 1.0\nfile /etc/passwd",
        b"#EXTM3U\n",
        b"\x1f\x8b\x08",
        b"\x00\x00\x00\x1cftypavif",
        b"DDS |",
        b"",
    ],
)
def test_files_that_are_no_pictures_are_refused_whatever_they_are_called(
    client: TestClient, services: Services, content: bytes
) -> None:
    files = {"input_reference": ("picture.png", content, "image/png")}
    answer = client.post("/v1/videos", data=BALL, files=files)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_media")
    assert services.store.folders("inputs") == []


def test_a_polyglot_is_what_its_first_bytes_say() -> None:
    kind = sniff(PNG + b"PK\x03\x04<svg>")
    assert kind is not None
    assert (kind.kind, kind.suffix) == ("image", ".png")
    with pytest.raises(InputError, match="expected a WAV"):
        check_kind(PNG, "audio", "audio")
    assert check_kind(b"\x00\x00\x00\x18ftypisom", "audio", "audio").suffix == ".mp4"


def test_a_clip_is_counted_before_it_is_kept_whatever_it_says_of_itself(tmp_path: Path) -> None:
    file = tmp_path / "bomb.gif"
    pictures = [Image.new("L", (320, 200), 40 * shade) for shade in range(6)]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=100)
    one = 9 * 3 * 320 * 200 / 0.8  # bytes for a frame while the clip is worked on
    check_clip(file, "video", RequestLimits(), free=int(6.1 * one))
    with pytest.raises(
        InputError, match="video has more than 5 frames of 320x200, which is all that this machine has mem"
    ):
        check_clip(file, "video", RequestLimits(), free=int(5.9 * one))
    with pytest.raises(InputError, match="more than 4 frames of 320x200, which is all that this server takes"):
        check_clip(file, "video", RequestLimits(max_pixel_frames=4 * 320 * 200))
    with pytest.raises(InputError, match="video is 320x200; at most 256 pixels a side"):
        check_clip(file, "video", RequestLimits(max_side=256))
    check_clip(file, "video", RequestLimits(max_seconds=0.6))
    with pytest.raises(InputError, match=r"video is longer than 0\.5 s, the most that this server takes"):
        check_clip(file, "video", RequestLimits(max_seconds=0.5))


def test_a_sound_is_no_longer_than_a_request_may_be(tmp_path: Path) -> None:
    file = tmp_path / "sound.wav"
    write_wav(file, np.zeros((2, 3 * 8000), np.float32), 8000)
    for name in ("audio", "voice"):
        check_files({name: file}, RequestLimits(max_seconds=3))
        with pytest.raises(InputError, match=rf"{name} is longer than 2\.5 s, the most that this server takes"):
            check_files({name: file}, RequestLimits(max_seconds=2.5))


def test_a_picture_whose_pixels_are_wide_is_refused_before_it_is_drawn_out() -> None:
    frame = av.VideoFrame(64, 4096, "yuv420p")
    assert shown_size(frame, Fraction(4, 3)) == (4096, 85)
    with pytest.raises(MediaError, match="64x4096 pixels that are each 1000 times as wide as high"):
        to_rgb(frame, Fraction(1000), VideoReformatter())


def test_a_compressed_body_is_refused_as_such(client: TestClient) -> None:
    content = gzip.compress(json.dumps(BALL).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.post("/v1/videos", content=content, headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["message"].startswith(
        "the body is compressed (gzip), which is not read; send it as it is"
    )
    whole = json.dumps(BALL)
    assert client.post("/v1/videos", content=whole, headers=headers | {"Content-Encoding": "identity"}).is_success


def test_the_operators_limits_reach_the_workers() -> None:
    settings = worker_settings(WorkOptions(max_seconds=5.0, max_upload="1MB"), HardwareOptions(), "7d")
    there = WorkerSettings.from_json(json.loads(json.dumps(settings.to_json())))
    assert (there.limits.max_seconds, there.limits.max_upload_bytes) == (5.0, 10**6)
    assert there == settings


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[(one, False) for one in ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0")],
        *[(one, False) for one in ("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1")],
        *[(one, False) for one in ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1", "192.0.2.1")],
        *[(one, False) for one in ("192.0.0.192", "192.0.0.8", "192.88.99.1", "64:ff9b:1::1", "5f00::1", "fec0::1")],
        *[(one, False) for one in ("168.63.129.16", "::ffff:168.63.129.16")],
        *[(one, True) for one in ("168.63.129.15", "1.1.1.1", "8.8.8.8", "2606:4700::1111")],
    ],
)
def test_only_the_open_internet_is_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/x", "http://[::1]/", "http://169.254.169.254/latest/meta-data/", "http://localhost/x"),
        *("http://2130706433/", "http://0x7f.1/", "file:///etc/passwd", "ftp://example.org/x", "gopher://example.org"),
        *(
            "http://user:pass@example.org/",
            "http://example.org:22/",
            "http:///x",
            "http://exa mple.org/",
            "//example.org",
        ),
    ],
)
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises((RefusedAddress, FetchError)):
        PublicHttp().fetch(url, 100)


class _Pages(http.server.BaseHTTPRequestHandler):
    """/png is a picture, /away redirects to a private address, /round to itself; what is posted is kept.

    What is posted to /hang is answered once `go_on` is set, and to /drip never, byte by byte.
    """

    posted: list[tuple[dict[str, str], bytes]]
    go_on: threading.Event

    def do_GET(self) -> None:
        where = {"/away": "http://169.254.169.254/latest/", "/round": "/round", "/to": "/png"}.get(self.path)
        self.send_response(200 if where is None else 302)
        if where is not None:
            self.send_header("Location", where)
        self.end_headers()
        if where is None:
            self.wfile.write(PNG)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((dict(self.headers.items()), body))
        if self.path == "/hang":
            assert self.go_on.wait(600)
        while self.path == "/drip":
            try:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                return
        self.send_response(500 if len(self.posted) == 1 else 204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def pages() -> Iterator[str]:
    _Pages.posted, _Pages.go_on = [], threading.Event()
    with _listening(_Pages) as address:
        yield address
    _Pages.go_on.set()


@contextmanager
def _listening(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def on_loopback(address: object) -> bool:
    """For tests: this machine is let in, and no other private address."""
    return str(address) == "127.0.0.1"


WEB = PublicHttp(on_loopback, ports=None, timeout=600)


def test_a_redirect_is_checked_as_its_first_address_was(pages: str) -> None:
    assert WEB.fetch(f"{pages}/to", 1000) == PNG
    with pytest.raises(RefusedAddress, match="private"):
        WEB.fetch(f"{pages}/away", 1000)
    with pytest.raises(FetchError, match="redirected"):
        WEB.fetch(f"{pages}/round", 1000)
    with pytest.raises(FetchError, match="larger"):
        WEB.fetch(f"{pages}/png", 10)


def test_a_name_is_resolved_once_and_every_address_must_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int, **kind: object) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    with pytest.raises(RefusedAddress):
        PublicHttp().fetch("http://rebinding.example/x", 10)
    assert asked == ["rebinding.example"]


def test_the_worker_fetches_only_where_the_operator_allows_it(pages: str, tmp_path: Path) -> None:
    from contextlib import ExitStack

    settings = WorkerSettings(models={"nano": "nano"}, allow_urls=True)
    store = FolderStore(tmp_path)
    request = JobRequest({"prompt": "x"}, urls={"image": f"{pages}/png"})
    with ExitStack() as stack:
        assert input_files(request, settings, store, stack, WEB)["image"].read_bytes() == PNG
    with ExitStack() as stack, pytest.raises(RefusedAddress):
        input_files(request, settings, store, stack, PublicHttp())
    with ExitStack() as stack, pytest.raises(InputError, match="not fetched"):
        input_files(request, replace(settings, allow_urls=False), store, stack, WEB)


def test_a_callback_is_signed_tried_again_and_tells_no_prompt(pages: str, tmp_path: Path) -> None:
    database = new_database(tmp_path)
    job = ask(database, "a secret ball")
    with database.write() as connection:
        connection.execute(JOB.update().values(callback_url=f"{pages}/hook", callback_due=1.0, status="completed"))
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    callbacks = Callbacks(database, signing_key(secret), WEB)
    stopping = threading.Event()
    stopping.set()
    assert callbacks.send_due(stopping) == 0
    assert callbacks.send_due() == 1
    assert callbacks.send_due() == 0  # it failed, and is due later
    with database.write() as connection:
        connection.execute(JOB.update().values(callback_due=1.0))
    assert callbacks.send_due() == 1
    headers, body = _Pages.posted[1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"0123456789abcdef", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    event = json.loads(body)
    assert (event["type"], event["data"]["id"]) == ("video.completed", job.id)
    assert b"secret" not in body


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f000001", "0x7F.1", "0177.0.0.1", "2130706433", "0", "10.1.2.3", "0xa9fea9fe"),
        *("[::1]", "[::ffff:127.0.0.1]", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]"),
        *("localhost", "LOCALHOST.", "a.localhost", "printer.local", "db", "metadata.google.internal", "router.lan"),
        *("\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "169.254.169.254."),
    ],
)
def test_a_callback_to_a_private_host_is_refused_when_the_job_is_sent(
    client: TestClient, services: Services, host: str
) -> None:
    services.api = replace(services.api, allow_callbacks=True)
    answer = client.post("/v1/videos", json={**BALL, "callback_url": f"http://{host}/hook"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "callback_not_allowed", "callback_url")
    assert error["message"] == "callback_url: the URL leads to a private, local or reserved address"
    with pytest.raises(RefusedAddress):
        PublicHttp().post(f"http://{host}/hook", b"", {})


def test_a_callback_to_a_public_host_is_taken(client: TestClient, services: Services) -> None:
    services.api = replace(services.api, allow_callbacks=True)
    for host in ("example.org", "93.184.216.34", "[2606:2800:220:1::1]", "internal.example.org", "0x7f.example.org"):
        answer = client.post("/v1/videos", json={**BALL, "callback_url": f"https://{host}/hook"})
        assert answer.status_code == 200, host


def test_a_receiver_that_hangs_holds_up_its_own_callbacks_alone(
    pages: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = threading.Event()

    class Quick(_Pages):
        def do_POST(self) -> None:
            taken.set()
            self.send_response(200)
            self.end_headers()

    database = new_database(tmp_path)
    jobs = [ask(database) for _ in range(MOST_TO_ONE + 3)]
    quick = jobs[-1]
    with _listening(Quick) as other, database.write() as connection:
        connection.execute(JOB.update().values(callback_url=f"{pages}/hang", callback_due=1.0, status="completed"))
        for at, (job, url) in {2.0: (jobs[-2], "http://[::1]/token-7"), 3.0: (quick, f"{other}/hook")}.items():
            connection.execute(JOB.update().where(JOB.c.id == job.id).values(callback_url=url, callback_due=at))
        connection.commit()
        with caplog.at_level(logging.INFO, logger="phonofilm"):
            sending = threading.Thread(target=Callbacks(database, b"s" * 16, WEB).send_due, daemon=True)
            sending.start()
            assert taken.wait(600), "what is due later to another receiver does not wait"
            assert len(_Pages.posted) <= MOST_TO_ONE, "the rest waits for one of its own"
            assert not _Pages.go_on.is_set()
            _Pages.go_on.set()
            sending.join(600)
    assert len(_Pages.posted) == MOST_TO_ONE + 1
    assert f"callback of {quick.id}: delivered" in caplog.text
    assert f"callback of {jobs[-2].id}: try 1 of 6: the URL leads to a private" in caplog.text
    assert "token-7" not in caplog.text


def test_an_answer_that_comes_byte_by_byte_is_given_up(pages: str) -> None:
    with pytest.raises(FetchError):
        replace(WEB, timeout=0.1).post(f"{pages}/drip", b"x", {})


def test_openais_own_client_verifies_the_signature() -> None:
    openai = pytest.importorskip("openai")
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    body = b'{"id": "evt_1", "object": "event", "type": "video.completed", "created_at": 1, "data": {"id": "video_1"}}'
    client = openai.OpenAI(api_key="any", webhook_secret=secret)
    client.webhooks.verify_signature(body.decode(), signed_headers(signing_key(secret), "evt_1", body))
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body.decode() + " ", signed_headers(signing_key(secret), "evt_1", body))


def test_every_answer_carries_a_request_id_and_security_headers(client: TestClient) -> None:
    for path in ("/v1/videos", "/v1/nothing", "/liveness"):
        headers = client.get(path, headers={"X-Request-Id": "mine-1"}).headers
        assert headers["x-request-id"] == "mine-1"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
    odd = client.get("/liveness", headers={"X-Request-Id": "a b" * 40}).headers["x-request-id"]
    assert odd.isalnum()


def test_logs_hold_no_prompt_key_or_address(
    client: TestClient, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="phonofilm")
    token = create_key(services.database, "studio")
    worker, thread = worker_thread(services.worker, StubMaker())
    for prompt in ("a secret ball", "crash", "refuse"):
        client.post("/v1/videos?x=secret", json={"prompt": prompt}, headers=with_key(token))
    client.get("/v1/videos/secret", headers=with_key(token))
    while len(client.get("/v1/videos?status=failed", headers=with_key(token)).json()["data"]) < 2:
        pass
    worker.ask_to_stop()
    thread.join()
    assert "route=/v1/videos/{video_id} status=404" in caplog.text
    messages = [record.getMessage() for record in caplog.records]
    assert not [line for line in messages if "secret" in line or token in line]


def test_a_log_line_stays_one_line() -> None:
    record = logging.LogRecord("phonofilm", logging.INFO, "", 0, "a\nb\x1b[31m", None, None)
    assert TextLines().format(record).endswith("a b\\x1b[31m")
    assert json.loads(JsonLines().format(record))["message"] == "a\nb\x1b[31m"


def test_the_commands_are_known_without_the_packages_of_serving() -> None:
    import subprocess
    import sys

    heavy = "{'fastapi', 'uvicorn', 'sqlalchemy', 'alembic', 'prometheus_client', 'torch'}"
    code = f"import sys, phonofilm.cli.main, phonofilm.serving.client; sys.exit(len({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_new_database_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/jobs/jobs.db")
    migrate(database)
    files = sorted((tmp_path / "jobs").iterdir())
    assert {file.name for file in files} >= {"jobs.db", "jobs.db-wal"}
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "jobs", *files)] == ["0o700"] + ["0o600"] * len(
        files
    )
    (tmp_path / "a-file").touch()
    with pytest.raises(InputError, match=r"cannot open the database .* name another file"):
        open_database(f"sqlite:///{tmp_path}/a-file/jobs.db")


def test_a_servers_log_quotes_no_word_of_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    ours = {name: logging.getLogger(name).level for name in ("phonofilm", *QUOTING)}
    try:
        log_to_stderr(as_json=False)
        geometry = ClipGeometry(64, 64, 49, Fraction(24))
        warn_if_unfamiliar(PACKAGED_WEIGHTS, ["A red hunter2secret bounces."], [], geometry, known_words())
        read_lora(PACKAGED_WEIGHTS / STUDENT_FILE)
        logging.getLogger("phonofilm.generation").warning("something else")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
        for name, old in ours.items():
            logging.getLogger(name).setLevel(old)
    said = capsys.readouterr().err
    assert "something else" in said
    assert "secret" not in said
    assert STUDENT_FILE not in said
