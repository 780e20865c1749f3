"""Servers and workers killed with -9 at random while they have jobs: each job ends once, with whole files. No model is loaded."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from tests.serving_processes import Servers, check_all_ended_once, jobs_of, python_path
from tests.unit.serving_helpers import ask, new_database, postgres_server, require_postgres

from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.jobs.job import ENDED, Job
from phonofilm.serving.jobs.sweep import sweep_jobs
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.worker.supervisor import WorkerProcesses


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started here find this folder's modules."""
    monkeypatch.setenv("PYTHONPATH", python_path())


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


def test_a_second_ctrl_c_ends_a_frozen_worker_and_its_job_goes_back_without_a_strike(tmp_path: Path) -> None:
    database = new_database(tmp_path)
    ask(database, steps=1_000_000)
    settings = WorkerSettings(models={"nano": "nano"}, database_url=str(database.url), store=str(tmp_path / "files"))
    workers = WorkerProcesses(
        settings, database, 1, lambda: None, (sys.executable, "-m", "tests.serving_stub", "worker")
    )
    workers.start()
    while jobs_of(database)[0].step == 0:
        time.sleep(0.1)
    (process,) = [place.process for place in workers._places if place.process is not None]
    # The first Ctrl-C in a terminal reaches the server alone.
    assert os.getsid(process.pid) != os.getsid(0)
    process.send_signal(signal.SIGSTOP)

    def press(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):  # while the stop waits, which for a frozen worker would be 45 s
            workers.stop()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert process.poll() == -signal.SIGKILL
    (job,) = jobs_of(database)
    assert (job.status, job.strikes) == ("queued", 0)


@pytest.mark.slow
def test_twenty_kills_lose_and_double_nothing(database: Database, tmp_path: Path) -> None:
    jobs = kill_until_done(database, tmp_path, jobs=100, kills=20, seconds=1500, pause=0.7)
    check_all_ended_once(jobs, FolderStore(tmp_path / "files"), 100)
