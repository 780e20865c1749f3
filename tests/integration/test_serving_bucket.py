"""A server whose files are in S3: moto's stands for it, in a virtual environment of its own, behind a door that can be shut."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.serving_processes import Servers, jobs_of
from tests.serving_stub import BODY
from tests.unit.serving_helpers import ask, new_database

from phonofilm.serving.jobs.job import ENDED
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.bucket import BucketStore
from phonofilm.serving.store.interface import StoreError

pytestmark = pytest.mark.slow
PATIENCE = 900.0


class Door:
    """A port that leads to another one; shut, it refuses, and cuts off who is inside."""

    def __init__(self, port: int) -> None:
        self.target, self.shut = port, False
        self._inside: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._open, daemon=True).start()

    def close_for(self, seconds: float) -> None:
        self.shut = True
        for one in self._inside:
            one.close()
        time.sleep(seconds)
        self.shut = False

    def _open(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self.shut:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self._inside += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=_carry, args=(one, other), daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    try:
        while piece := one.recv(65_536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        other.close()


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running moto server with the bucket `clips`."""
    folder = tmp_path_factory.mktemp("moto")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "moto[server]"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"moto cannot be installed here: {installed.stderr.strip()[-200:]}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [str(folder / "venv" / "bin" / "moto_server"), "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def is_there() -> bool:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/clips", method="PUT")
            return bool(urllib.request.urlopen(request, timeout=30).status == 200)
        except urllib.error.URLError:
            return False

    until(is_there)
    yield port
    server.terminate()
    server.wait(30)


@pytest.fixture
def door(moto: int, monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door(moto)
    for name, value in {
        "ENDPOINT": f"http://127.0.0.1:{door.port}", "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    return door


def test_a_store_that_is_gone_for_a_while_ends_jobs_with_the_reason_and_no_server(tmp_path: Path, door: Door) -> None:
    place = f"s3://clips/{tmp_path.name}"
    database, store = new_database(tmp_path), BucketStore.from_url(place)
    for number in range(60):
        ask(database, f"job {number}")
    settings = WorkerSettings(models={"nano": "nano"}, database_url=str(database.url), store=place, lease=5.0)
    servers = Servers(settings)
    try:
        until(lambda: any(job.status == "completed" for job in jobs_of(database)))
        door.close_for(15.0)
        until(lambda: all(job.status in ENDED for job in jobs_of(database)))
        later = ask(database, "later")
        until(lambda: next(job for job in jobs_of(database) if job.id == later.id).status in ENDED)
        url = f"http://127.0.0.1:{servers.port}/v1/videos/{later.id}"
        with urllib.request.urlopen(f"{url}/content", timeout=300) as answer:
            assert answer.read() == BODY + b"video"
        request = urllib.request.Request(f"{url}/content", headers={"Range": "bytes=2-5"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            assert (answer.status, answer.read()) == (206, (BODY + b"video")[2:6])
        door.shut = True
        with pytest.raises(urllib.error.HTTPError) as gone:
            urllib.request.urlopen(f"{url}/content", timeout=300)
        assert (gone.value.code, json.loads(gone.value.read())["error"]["code"]) == (503, "storage_unavailable")
        door.shut = False
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=300).close()
        until(lambda: store.files("outputs", later.id) == [])
    finally:
        door.shut = False
        servers.stop()
    jobs = jobs_of(database)
    assert len(jobs) == 60
    for job in jobs:
        if job.status == "failed":
            assert job.error_code == "storage_error", job.error_message
            continue
        for variant, name in job.outputs[0].items():
            assert b"".join(store.read(name, 0, 1000)) == BODY + variant.encode()
    assert sum(job.status == "completed" for job in jobs) >= 20


def test_a_bucket_that_is_not_there_is_said(tmp_path: Path, door: Door) -> None:
    store = BucketStore.from_url("s3://nobodys/prefix")
    (tmp_path / "clip").write_bytes(b"x")
    with pytest.raises(StoreError):
        store.put("outputs/video_1/1-0.mp4", tmp_path / "clip")
