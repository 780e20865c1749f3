"""Disks that are full, stores that are gone, clients that are slow: said plainly, and over when the cause is over."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sse_starlette.sse import AppStatus
from starlette.types import Receive, Scope, Send
from tests.serving_processes import jobs_of, python_path
from tests.serving_stub import StubMaker, worker_thread
from tests.unit.serving_helpers import PNG, ask, client_of, services_in

from phonofilm.errors import MediaError
from phonofilm.generation.report import Event, SamplingStarted, StageStarted, StepDone, emit
from phonofilm.serving.api import videos
from phonofilm.serving.api.app import create_app
from phonofilm.serving.api.errors import add_error_handlers
from phonofilm.serving.api.guard import Guard
from phonofilm.serving.api.services import Services
from phonofilm.serving.client import ServerClient, ServerError
from phonofilm.serving.jobs.claims import Claims, expire_leases
from phonofilm.serving.jobs.job import JobRequest, MadeClips, new_job_id
from phonofilm.serving.jobs.job_queue import NewJob, Room, cancel_job, enter, find
from phonofilm.serving.jobs.roster import WorkerReport, living_workers, report_worker
from phonofilm.serving.jobs.sweep import sweep_files, sweep_jobs
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.server import uvicorn_config
from phonofilm.serving.slow_clients import HurriedProtocol
from phonofilm.serving.worker.failures import failure_of, without_paths
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.process import work_until_stopped
from phonofilm.serving.worker.silence import LISTEN_SECONDS, SILENT_LEASES
from phonofilm.serving.worker.supervisor import WorkerProcesses, _Place

BALL = {"prompt": "a ball"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path)


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services)


@pytest.fixture
def working(services: Services) -> Iterator[None]:
    """A worker takes jobs while the test runs."""
    worker, thread = worker_thread(services.worker, StubMaker())
    yield
    worker.ask_to_stop()
    thread.join()


def ended(client: TestClient) -> tuple[str, str | None, str]:
    """The state of a new job once it has ended, and what its error says."""
    video_id = client.post("/v1/videos", json=BALL).json()["id"]
    client.get(f"/v1/videos/{video_id}/events")  # until it has ended
    job = client.get(f"/v1/videos/{video_id}").json()
    error = job["error"] or {"code": None, "message": ""}
    return job["status"], error["code"], error["message"]


def no_room(*words: Any, **more: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_fails_jobs_with_the_reason_until_there_is_room(
    client: TestClient, services: Services, working: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfile", no_room)
        assert ended(client)[:2] == ("failed", "storage_error")
        answer = client.post("/v1/videos", data=BALL, files={"input_reference": PNG})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        assert list((Path(services.worker.store) / "inputs").iterdir()) == [], "no folder without a file"
    with monkeypatch.context() as full:  # where uploads are kept before they are stored
        full.setattr(shutil, "copyfileobj", no_room)
        answer = client.post("/v1/videos", data=BALL, files={"input_reference": PNG})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert ended(client)[0] == "completed"
    assert len(client.get("/v1/videos").json()["data"]) == 2  # the uploads made no job


def test_what_a_killed_server_left_half_written_is_swept(services: Services) -> None:
    job = ask(services.database)
    root = Path(services.worker.store) / "inputs"
    for name, file in (
        ("video_1", ".phonofilm-0-1-2.part"),
        ("video_2", None),
        ("video_3", "image.png"),
        (job.id, "image.png"),
    ):
        (root / name).mkdir(parents=True)
        if file is not None:
            (root / name / file).write_bytes(b"half")
        os.utime(root / name, (1.0, 1.0))
    assert sweep_files(services.database, services.store) == 1
    assert [folder.name for folder in root.iterdir()] == [job.id]


def test_nothing_is_kept_in_the_empty_place_of_a_store_that_was_unmounted(
    client: TestClient, services: Services, working: None
) -> None:
    assert ended(client)[0] == "completed"
    made = client.get("/v1/videos").json()["data"][0]["id"]
    place = Path(services.worker.store)
    place.rename(place.with_name("disk"))
    place.mkdir()  # as the mount point that the disk covered
    assert ended(client)[:2] == ("failed", "storage_error")
    assert client.get(f"/v1/videos/{made}/content").status_code == 503
    assert client.post("/v1/videos", data=BALL, files={"input_reference": PNG}).status_code == 503
    assert list(place.iterdir()) == []
    place.rmdir()
    place.with_name("disk").rename(place)
    assert client.get(f"/v1/videos/{made}/content").status_code == 200
    assert ended(client)[0] == "completed"


def test_a_store_that_is_gone_fails_jobs_and_no_worker(client: TestClient, services: Services, working: None) -> None:
    assert ended(client)[0] == "completed"
    made = client.get("/v1/videos").json()["data"][0]["id"]
    place = Path(services.worker.store)
    place.rename(place.with_name("away"))
    place.write_text("not a folder")
    status, code, message = ended(client)
    assert (status, code) == ("failed", "storage_error")
    assert str(place) not in message
    assert client.get(f"/v1/videos/{made}/content").status_code in (404, 503)
    place.unlink()
    place.with_name("away").rename(place)
    assert client.get(f"/v1/videos/{made}/content").status_code == 200
    assert ended(client)[0] == "completed"


def test_a_store_that_is_away_while_a_worker_starts_ends_the_worker_and_not_its_server(
    services: Services, tmp_path: Path
) -> None:
    (tmp_path / "away").write_text("no folder")
    settings = replace(services.worker, store=str(tmp_path / "away" / "files"))
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        code = work_until_stopped(Worker(settings, StubMaker()))
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert code == 1, "a death, after which another is started; CANNOT_START would stop the server"


def test_a_second_ctrl_c_gives_the_job_back_and_takes_the_worker_away(services: Services) -> None:
    """Of a process. Two of the same signal may come as one, so that the second is SIGTERM, which has the same handler."""
    database = services.database
    enter(database, NewJob(new_job_id(), JobRequest({**BALL, "steps": 1_000_000}), "nano"), OPEN_ACCESS, Room())
    settings = replace(services.worker, grace=3600.0, lease=3600.0)
    words = [sys.executable, "-m", "tests.serving_stub", "worker"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": python_path()})
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"settings": settings.to_json(), "worker": "worker_1"}) + "\n")
        process.stdin.flush()
        while jobs_of(database)[0].step == 0 or not living_workers(database):
            assert process.poll() is None
            time.sleep(0.05)
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        assert process.wait(600) == 1
    finally:
        process.kill()
        process.wait()
    (job,) = jobs_of(database)
    assert (job.status, job.strikes, job.worker) == ("queued", 0, None), "nobody has to wait for its lease"
    assert living_workers(database) == [], "/health counts it no more"


def test_a_worker_that_has_left_is_not_counted_again_by_a_late_report(services: Services) -> None:
    worker, thread = worker_thread(services.worker, StubMaker())
    while not living_workers(services.database):
        time.sleep(0.01)
    worker.leave()
    worker._report()
    assert living_workers(services.database) == []
    worker.ask_to_stop()
    thread.join()


def test_a_disk_at_the_bottom_of_an_error_is_no_fault_of_the_request() -> None:
    error = MediaError("cannot write clip.mp4")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert failure_of(error)[0] == "storage_error"
    assert failure_of(MediaError("a picture without pixels")) == ("invalid_request", "a picture without pixels")


@contextmanager
def listening(services: Services, head_seconds: float) -> Iterator[int]:
    """A real server's port."""
    protocol = type("Protocol", (HurriedProtocol,), {"head_seconds": head_seconds})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn_config(create_app(services))
        config.http = protocol
        server = uvicorn.Server(config)
        serving = threading.Thread(target=server.run, args=([listener],), daemon=True)
        serving.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        serving.join()


def answer_to(port: int, *pieces: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\r\n\r\n", b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n"]
)
def test_what_is_no_http_is_refused_as_everything_else_is(services: Services, sent: bytes) -> None:
    with listening(services, 10.0) as port:
        head, _, body = answer_to(port, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}


def test_a_request_may_name_the_whole_address(services: Services) -> None:
    with listening(services, 10.0) as port:

        def status(target: str, host: str = "localhost") -> int:
            sent = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            return int(answer_to(port, sent.encode())[9:12])

        assert status(f"http://localhost:{port}/v1/videos?limit=1") == 200
        assert status(f"HTTP://LOCALHOST:{port}/v1/videos?limit=0") == 400
        assert status(f"http://localhost:{port}/v1/%76ideos") == 200
        # The address counts, not the header Host (RFC 9112, 3.2.2), also for who may ask.
        assert status(f"http://localhost:{port}/v1/videos", "elsewhere.example") == 200
        assert status("http://elsewhere.example/v1/videos", f"localhost:{port}") == 403
        assert status("http://[/v1/videos") == 403
        assert status("http://localhost/v1/videos%23none") == 404
        for nowhere in ("http:///v1/videos", "http://user@localhost/v1/videos", "ftp://localhost/v1/videos"):
            assert status(nowhere) == 404


def test_a_request_whose_end_is_told_twice_is_the_last_of_its_connection(services: Services) -> None:
    sent = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with listening(services, 10.0) as port:
        answer = answer_to(port, sent + b"GET /liveness HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "kind", [b"application/json", b"multipart/form-data; boundary=x"], ids=lambda kind: kind.decode()[:9]
)
def test_clients_that_hang_up_in_the_middle_of_a_body_are_no_fault_of_the_server(
    services: Services, kind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + kind + b"\r\nContent-Length: 500\r\n\r\n"
    with listening(services, 10.0) as port, caplog.at_level(logging.INFO):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head + b"--x\r\n")
        until = time.monotonic() + 60
        while "route=/v1/videos" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
    assert "route=/v1/videos status=400" in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_clients_that_dawdle_are_let_go(services: Services) -> None:
    services.api = replace(services.api, body_seconds=0.2)
    whole = b"GET /liveness HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = (
        b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    with listening(services, head_seconds=0.2) as port:
        assert answer_to(port) == b""
        assert answer_to(port, b"GET /liveness HTTP/1.1\r\nHost: local") == b""
        assert answer_to(port, whole, b"GET /live").count(b"200 OK") == 1
        assert answer_to(port, body).startswith(b"HTTP/1.1 408")
    with listening(services, head_seconds=60) as port:
        assert answer_to(port, b"GET /liveness HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000).startswith(
            b"HTTP/1.1 400"
        )


def test_an_answer_that_is_ready_late_is_not_taken_for_a_body_that_does_not_arrive(services: Services) -> None:
    """Files are sent while somebody listens for the end of the connection, which reads the request's body: an empty one."""
    services.api = replace(services.api, body_seconds=0.2)

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        assert (await receive())["type"] == "http.request"
        await Response("a frame")(scope, receive, send)

    assert TestClient(Guard(late, services, Counter())).get("/").text == "a frame"


def test_streams_of_events_end_whole_when_the_server_stops(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = client.post("/v1/videos", json=BALL).json()["id"]
    # sse_starlette looks every half second whether the server stops, which is earlier than the stream looks.
    monkeypatch.setattr(videos, "LOOK_SECONDS", 0.8)
    monkeypatch.setattr(videos, "LAST_LOOK_SECONDS", 300.0)
    with listening(services, 10.0) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.request("GET", f"/v1/videos/{waiting}/events")
        answer = connection.getresponse()
        assert answer.readline().startswith(b"id: ")
        monkeypatch.setattr(AppStatus, "should_exit", True)
        services.closing.set()
        whole = answer.read()  # raises IncompleteRead for a stream that was cut off
        assert b'"status":"queued"' in whole
        assert whole.endswith(b'event: closing\r\ndata: {"reason": "shutdown"}\r\n\r\n')
        connection.close()


@pytest.mark.parametrize("path", ["/v1/videos/{}/events", "/v1/studio/events"])
def test_a_stream_that_ends_before_what_it_follows_says_why(services: Services, path: str) -> None:
    services.api = replace(services.api, stream_seconds=0.0)
    job = ask(services.database)
    stream = client_of(services).get(path.format(job.id)).text
    assert stream.endswith('event: closing\r\ndata: {"reason": "time"}\r\n\r\n')
    cancel_job(services.database, job)
    ended = client_of(services).get(f"/v1/videos/{job.id}/events").text
    assert "cancelled" in ended
    assert "closing" not in ended


def test_a_client_says_that_it_tries_again_and_why(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("phonofilm.serving.client.time.sleep", pauses.append)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerError, match="does not answer"):
            ServerClient(url, tries=3).models()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert pauses == [0.5, 1.0]
    assert [one.partition("; ")[2] for one in said] == [
        "trying again in 0.5 s (2 of 3)",
        "trying again in 1 s (3 of 3)",
    ]
    assert all(one.startswith(f"{url} does not answer ([Errno 111] Connection refused)") for one in said)


def test_bug_a_job_was_given_up_while_its_server_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("phonofilm.serving.client.time.sleep", pauses.append)
    answers = ["in_progress", *[None] * 8, "completed"]

    def ask(_: object, request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
        status = answers.pop(0)
        if status is None:
            raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))
        body = json.dumps({"id": "video_a", "status": status}).encode()
        near, far = socket.socketpair()
        with far:
            far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        response = http.client.HTTPResponse(near)
        response.begin()
        return response

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", ask)
    assert ServerClient("http://127.0.0.1:1").wait("video_a", lambda job: None)["status"] == "completed"
    assert sum(pauses) > 120


def test_a_job_that_is_taken_up_again_counts_the_clips_that_are_there(services: Services) -> None:
    request = JobRequest({"prompt": "a ball"}, seeds=[1, 2, 3, 4])
    waiting = enter(services.database, NewJob(new_job_id(), request, "nano"), OPEN_ACCESS, Room())[0]
    lost = Claims(services.database, "a").claim(["nano"], [], 60)
    assert lost is not None
    Claims(services.database, "a").publish(lost, MadeClips([{"video": "x"}], {"seeds": [1]}, 1), None)
    expire_leases(services.database, "a")
    claims = Claims(services.database, "b")
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    assert job.progress == 24, "nothing is sampled yet"
    held = HeldJob(claims, job, 60)
    held.begin_clip(1, 8)

    def now() -> tuple[int, int, int]:
        found = find(services.database, waiting.id, OPEN_ACCESS)
        assert found is not None
        return found.step, found.steps, found.progress

    held(SamplingStarted(("high",) * 8))
    assert now() == (8, 32, 24)
    held(StepDone(4, 8, "high"))
    assert now() == (12, 32, 37)
    claims.release(job)
    assert now() == (0, 0, 24), "it waits again"


@pytest.mark.parametrize("end", ["made", "refused", "cancelled", "cancelled while it waits", "lost"])
def test_no_preview_stays_once_a_job_has_ended_whoever_was_killed_meanwhile(services: Services, end: str) -> None:
    database, store = services.database, services.store
    job = ask(database, "refuse" if end == "refused" else "a ball")
    dead = Claims(database, "dead")
    held = dead.claim(["nano"], [], 60)
    assert held is not None
    name = f"outputs/{job.id}/1-preview.webp"
    (store.root / "picture").write_bytes(b"a picture")
    store.put(name, store.root / "picture")
    assert dead.renew(held, preview=name)
    expire_leases(database, "dead")
    if end == "cancelled":
        cancel_job(database, job)
    elif end == "cancelled while it waits":
        held = Claims(database, "other").claim(["nano"], [], 60)
        assert held is not None
        assert Claims(database, "other").release(held)
        cancel_job(database, job)
    elif end == "lost":
        for _ in range(2):
            assert dead.claim(["nano"], [], 60) is not None
            expire_leases(database, "dead")
    else:
        worker, thread = worker_thread(services.worker, StubMaker())
        while not (find(database, job.id, OPEN_ACCESS) or job).has_ended:
            time.sleep(0.01)
        worker.ask_to_stop()
        thread.join()
    for _ in range(2):
        sweep_jobs(database, store, None)
    now = find(database, job.id, OPEN_ACCESS)
    assert now is not None
    assert (now.has_ended, now.preview) == (True, None)
    assert not [one for one in store.files("outputs", job.id) if "preview" in one]


def test_a_clips_seconds_per_step_are_those_of_its_steps(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(services.database)
    claims = Claims(services.database, "a")
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    now = [100.0]
    monkeypatch.setattr("phonofilm.serving.worker.held_job.time.monotonic", lambda: now[0])
    held = HeldJob(claims, job, 60)
    assert held.seconds_per_step is None

    def after(seconds: float, event: Event) -> None:
        now[0] += seconds
        emit(held, event)

    def keep(preview: object) -> str:
        now[0] += 500
        return "preview"

    held.keep_preview = keep
    after(40, SamplingStarted(("high", "low")))
    after(2, StepDone(1, 2, "high", Mock()))
    after(4, StepDone(2, 2, "low"))
    after(90, StageStarted("decode"))
    assert held.seconds_per_step == 3.0


@pytest.mark.parametrize("store", ["/home/a b/jobs/files", "jobs/files", "/elsewhere"])
def test_clients_hear_of_the_field_and_not_of_the_file_that_it_lies_in(store: str) -> None:
    """A store is often named by a relative folder, and its files' paths are whole."""
    path = f"{store if store.startswith('/home') else '/srv/jobs/files'}/inputs/video_1a/image.png"
    assert without_paths(f"{path} cannot be read", store, {}) == "input_reference cannot be read"
    assert without_paths("see https://a.org/b/c and /etc/d/e.txt", store, {}) == "see https://a.org/b/c and e.txt"


def test_an_error_that_is_its_own_cause_ends_the_job_and_not_the_worker() -> None:
    error = MediaError("video is cut off")
    error.__cause__ = error
    assert failure_of(error) == ("invalid_request", "video is cut off")


def test_a_worker_that_lives_and_says_nothing_is_killed_to_be_replaced(services: Services) -> None:
    command = ("sh", "-c", "read settings; exec sleep 1000")
    database, place = services.database, _Place()
    workers = WorkerProcesses(services.worker, database, 1, lambda: None, command)
    patience = round(SILENT_LEASES * services.worker.lease / LISTEN_SECONDS)
    start = round(services.worker.start / LISTEN_SECONDS)

    def listen(times: int, most: int = patience) -> bool:
        for _ in range(times):
            workers._listen(place)
        return place.silence.times <= most

    def rename(before: str, after: str) -> None:
        with database.write() as connection:
            connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

    workers._start(place)
    assert place.process is not None
    try:
        assert listen(start, start)
        report_worker(database, WorkerReport(place.worker, "starting", ["nano"], 1.0))  # it loads its model
        assert listen(1 + start, start)
        for _ in range(2):
            report_worker(database, WorkerReport(place.worker, "ready", ["nano"], 1.0))
            assert listen(1 + patience)
        rename("worker", "away")
        assert listen(1)  # a database that does not answer, where nobody can report either
        rename("away", "worker")
        assert listen(patience)
        assert place.process.poll() is None
        workers._listen(place)
        assert place.process.wait() == -signal.SIGKILL
    finally:
        place.process.kill()
        place.process.wait()


def test_a_value_that_the_database_cannot_hold_is_the_requests_fault() -> None:
    """PostgreSQL's driver refuses a NUL in a text as DataError; nothing is wrong with the database."""
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/")
    def look(tag: str) -> None:
        raise DataError("SELECT", {"tag": tag}, ValueError("PostgreSQL text fields cannot contain NUL"))

    answer = TestClient(app, raise_server_exceptions=False).get("/?tag=%00")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
