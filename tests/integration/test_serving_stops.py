"""A server that is asked to stop while a clip runs, and one that is restored from a backup. No model is loaded."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from tests.integration.test_serving_killed import Servers, check_all_ended_once, importable, jobs_of
from tests.unit.serving_helpers import ask, new_database

from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.jobs.job import COMPLETED, IN_PROGRESS, QUEUED, Job, JobRequest
from phonofilm.serving.jobs.job_queue import edit_job
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("importable")]
__all__ = ["importable"]
PATIENCE = 600.0
ENDLESS = {"prompt": "a ball", "steps": 1_000_000}


def until(database: Database, happened: Callable[[list[Job]], bool]) -> list[Job]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if happened(jobs := jobs_of(database)):
            return jobs
        time.sleep(0.1)
    raise AssertionError(jobs_of(database))


def settings_in(folder: Path) -> WorkerSettings:
    url, store = f"sqlite:///{folder}/jobs.db", str(folder / "files")
    return WorkerSettings({"nano": "nano"}, database_url=url, store=store, lease=2.0, grace=1.0)


def test_a_clip_that_takes_too_long_goes_back_to_the_queue_without_a_strike(tmp_path: Path) -> None:
    database = new_database(tmp_path)
    edit_job(database, ask(database), JobRequest(ENDLESS), 0)
    servers = Servers(settings_in(tmp_path))
    until(database, lambda jobs: jobs[0].status == IN_PROGRESS and jobs[0].step > 0)
    workers = servers.workers()
    servers.server.send_signal(signal.SIGTERM)
    assert servers.server.wait(60) == 0
    assert psutil.wait_procs(workers, timeout=0)[1] == []
    (stopped,) = jobs_of(database)
    assert (stopped.status, stopped.strikes, stopped.attempt) == (QUEUED, 0, 1)
    edit_job(database, stopped, JobRequest({"prompt": "a ball"}), 0)
    servers.start()
    until(database, lambda jobs: jobs[0].status == COMPLETED)
    servers.stop()
    check_all_ended_once(jobs_of(database), FolderStore(tmp_path / "files"), 1)


def test_a_backup_of_a_running_server_is_restored_with_its_jobs(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    database = new_database(old)
    done = ask(database)
    servers = Servers(settings_in(old))
    until(database, lambda jobs: jobs[0].status == COMPLETED)
    for number in range(3):
        edit_job(database, ask(database, f"job {number}"), JobRequest(ENDLESS), 0)
    until(database, lambda jobs: sum(job.status == IN_PROGRESS for job in jobs) == 2)
    with database.reader.connect() as connection:  # as documented: the table first, the files after it
        connection.execute(text(f"VACUUM INTO '{new}/jobs.db'"))
    shutil.copytree(old / "files", new / "files")
    servers.server.kill()
    restored = open_database(f"sqlite:///{new}/jobs.db")
    states = {job.id: job.status for job in jobs_of(restored)}
    assert sorted(states.values()) == [COMPLETED, IN_PROGRESS, IN_PROGRESS, QUEUED]
    with restored.write() as connection:  # so that they end
        connection.execute(text("UPDATE job SET request = replace(request, '1000000', '4')"))
    again = Servers(settings_in(new))
    until(restored, lambda jobs: all(job.status == COMPLETED for job in jobs))
    again.stop()
    check_all_ended_once(jobs_of(restored), FolderStore(new / "files"), 4)
    assert next(job for job in jobs_of(restored) if job.id == done.id).attempt == 1
