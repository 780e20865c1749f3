"""Servers and workers killed with -9 at random while they have jobs: each job ends once, with whole files. No model is loaded."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from tests.serving_stub import BODY
from tests.unit.serving_helpers import ask, postgres_server, require_postgres

from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import ENDED, Job, job_of
from phonofilm.serving.jobs.sweep import sweep_jobs
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.worker.supervisor import WorkerProcesses

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started here find this folder's modules."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))


class Servers:
    """A whole server with two workers, which can be killed and started again."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        words = [
            sys.executable,
            "-m",
            "tests.serving_stub",
            "server",
            json.dumps(self.settings.to_json()),
            str(self.port),
        ]
        self.server = subprocess.Popen(words, stderr=subprocess.DEVNULL)

    def workers(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.server.pid).children()
        except psutil.NoSuchProcess:
            return []

    def kill_something(self, chance: random.Random) -> None:
        """A worker twice out of three times, else the server, which is started again at once."""
        workers = self.workers()
        if workers and chance.random() < 2 / 3:
            chance.choice(workers).kill()
            return
        self.server.kill()
        self.server.wait()
        self.start()

    def stop(self) -> None:
        workers = self.workers()
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(30)
        psutil.wait_procs(workers, timeout=10)


def jobs_of(database: Database) -> list[Job]:
    with database.read() as connection:
        return [job_of(row) for row in connection.execute(select(*JOB.c)).mappings()]


def kill_until_done(database: Database, folder: Path, jobs: int, kills: int, seconds: float, pause: float) -> list[Job]:
    """Enter jobs, kill something every `pause` seconds, `kills` times; the jobs once all have ended."""
    settings = WorkerSettings(
        models={"nano": "nano"},
        database_url=database.url.render_as_string(hide_password=False),
        store=str(folder / "files"),
        lease=2.0,
        grace=2.0,
    )
    for number in range(jobs):
        ask(database, f"job {number}")
    servers, chance = Servers(settings), random.Random(1)
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            left = [job for job in jobs_of(database) if job.status not in ENDED]
            if not left:
                break
            time.sleep(pause)
            # From the first job on, so that every kill meets work.
            if kills and any(job.attempt for job in jobs_of(database)):
                servers.kill_something(chance)
                kills -= 1
    finally:
        servers.stop()
    assert kills == 0, f"{kills} kills were left when all jobs had ended"
    return jobs_of(database)


def check_all_ended_once(jobs: list[Job], store: FolderStore, count: int) -> None:
    """Every job is completed with whole files of one attempt, or failed with a reason."""
    assert len(jobs) == count
    for job in jobs:
        assert job.status in ("completed", "failed"), job
        if job.status == "failed":
            assert job.error_code == "worker_lost", job.error_message
            continue
        (names,) = job.outputs
        assert {name.rpartition("/")[2].partition("-")[0] for name in names.values()} == {str(job.attempt)}
        for variant, name in names.items():
            assert b"".join(store.read(name, 0, 1000)) == BODY + variant.encode()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        found = open_database(f"sqlite:///{tmp_path}/jobs.db")
        migrate(found)
        yield found
        return
    with postgres_server(require_postgres()) as url:
        found = open_database(url)
        migrate(found)
        yield found
        found.close()


def test_killed_workers_lose_and_double_nothing_and_a_deadly_job_ends_with_the_reason(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/jobs.db")
    migrate(database)
    deadly, others = ask(database, "kill"), [ask(database, f"job {number}") for number in range(20)]
    settings = WorkerSettings(
        models={"nano": "nano"}, database_url=str(database.url), store=str(tmp_path / "files"), grace=5.0
    )
    store, chance = FolderStore(tmp_path / "files"), random.Random(1)
    command = (sys.executable, "-m", "tests.serving_stub", "worker")
    workers = WorkerProcesses(settings, database, 2, lambda: None, command)
    workers.start()
    kills = 2
    while any(job.status not in ENDED for job in jobs_of(database)):
        time.sleep(0.1)
        sweep_jobs(database, store, settings.keep)
        running = [job for job in jobs_of(database) if job.status == "in_progress" and job.id != deadly.id]
        # Of this server only: a process that runs several tests has other children too.
        processes = [place.process for place in workers._places]
        alive = [process for process in processes if process is not None and process.poll() is None]
        if kills and running and alive:
            chance.choice(alive).kill()
            kills -= 1
    workers.stop()
    jobs = jobs_of(database)
    check_all_ended_once(jobs, store, 21)
    assert [job.error_code for job in jobs if job.id == deadly.id] == ["worker_lost"]
    assert sum(job.status == "completed" for job in jobs) >= len(others) - 1


@pytest.mark.slow
def test_twenty_kills_lose_and_double_nothing(database: Database, tmp_path: Path) -> None:
    jobs = kill_until_done(database, tmp_path, jobs=100, kills=20, seconds=1500, pause=0.7)
    check_all_ended_once(jobs, FolderStore(tmp_path / "files"), 100)
