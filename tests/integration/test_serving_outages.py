"""What happens to jobs when a worker freezes, or the database goes away for ten seconds; and whether memory grows."""

from __future__ import annotations

import gc
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.nano_fixture import tiny_nano_pipeline
from tests.serving_processes import Servers, check_all_ended_once, jobs_of
from tests.unit.serving_helpers import ask, new_database, require_postgres, running_postgres

from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.jobs.job import ENDED, JobRequest
from phonofilm.serving.jobs.job_queue import edit_job
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.sessions import SessionMaker

pytestmark = pytest.mark.slow
PATIENCE = 600.0


def wait_for(what: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Until it is so; fails after so many seconds."""
    until = time.monotonic() + patience
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def settings_for(database: Database, folder: Path) -> WorkerSettings:
    return WorkerSettings(
        models={"nano": "nano"},
        database_url=database.url.render_as_string(hide_password=False),
        store=str(folder / "files"),
        lease=5.0,
        grace=2.0,
    )


def test_a_frozen_worker_loses_its_job_and_what_it_makes_when_it_wakes_counts_for_nothing(tmp_path: Path) -> None:
    database = new_database(tmp_path)
    job = ask(database)
    edit_job(database, job, JobRequest({"prompt": "a ball", "steps": 500}), 0)
    servers = Servers(settings_for(database, tmp_path))
    frozen: list[psutil.Process] = []
    try:
        wait_for(lambda: jobs_of(database)[0].step > 0)
        # Which of the two has the job is not known outside; the one whose stop keeps the step from moving has it.
        first = jobs_of(database)[0]
        for process in servers.workers():
            process.send_signal(signal.SIGSTOP)
            frozen.append(process)
            before = jobs_of(database)[0].step
            time.sleep(3.0)
            if jobs_of(database)[0].step == before:
                break
            process.send_signal(signal.SIGCONT)
            frozen.pop()
        assert len(frozen) == 1
        wait_for(lambda: jobs_of(database)[0].attempt == first.attempt + 1)
        frozen.pop().send_signal(signal.SIGCONT)
        wait_for(lambda: jobs_of(database)[0].status in ENDED)
        # The worker that woke up takes the next job: it noticed, dropped the old one and lives.
        others = [ask(database, f"job {number}") for number in range(6)]
        wait_for(lambda: all(one.status in ENDED for one in jobs_of(database)))
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
        servers.stop()
    jobs = jobs_of(database)
    check_all_ended_once(jobs, FolderStore(tmp_path / "files"), 1 + len(others))
    (made,) = [one for one in jobs if one.id == job.id]
    assert (made.status, made.attempt, made.strikes) == ("completed", first.attempt + 1, 1)
    stored = FolderStore(tmp_path / "files").files("outputs", job.id)
    assert {name.rpartition("/")[2].partition("-")[0] for name in stored if "preview" not in name} == {
        str(made.attempt)
    }


def test_ten_seconds_without_the_database_lose_nothing(tmp_path: Path) -> None:
    with running_postgres(require_postgres()) as postgres:
        database = open_database(postgres.url)
        migrate(database)
        for number in range(40):
            ask(database, f"job {number}")
        servers = Servers(settings_for(database, tmp_path))
        answers: Counter[int] = Counter()
        reasons: set[str] = set()
        over = threading.Event()
        url = f"http://127.0.0.1:{servers.port}/v1/videos"

        def keep_asking() -> None:
            while not over.wait(0.2):
                try:
                    with urllib.request.urlopen(f"{url}?limit=1", timeout=60) as answer:
                        answers[answer.status] += 1
                except urllib.error.HTTPError as error:
                    answers[error.code] += 1
                    reasons.add(json.loads(error.read())["error"]["code"])
                except OSError:
                    continue  # the server is not up yet

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            wait_for(lambda: any(job.status == "completed" for job in jobs_of(database)))
            postgres.stop()
            time.sleep(10.0)
            during = answers.copy()
            postgres.start()
            database.close()  # its connections are dead
            wait_for(lambda: all(job.status in ENDED for job in jobs_of(database)))
            wait_for(lambda: answers[200] > during[200])
        finally:
            over.set()
            asking.join()
            servers.stop()
        jobs = jobs_of(database)
        database.close()
    check_all_ended_once(jobs, FolderStore(tmp_path / "files"), 40)
    assert during[503] > 0
    assert (set(answers), reasons) == ({200, 503}, {"database_unavailable"})


def test_memory_stays_where_it_is_over_many_jobs(tmp_path: Path) -> None:
    """A tiny checkpoint's jobs in this process: what is in use after the first thirty is in use after all."""
    tiny_nano_pipeline(32, 5).save_pretrained(tmp_path / "tiny")
    database = new_database(tmp_path)
    settings = WorkerSettings(
        models={"tiny": str(tmp_path / "tiny")}, database_url=str(database.url), store=str(tmp_path / "files")
    )
    worker = Worker(settings, SessionMaker(settings))
    working = threading.Thread(target=worker.run, daemon=True)
    working.start()

    def after(count: int) -> int:
        for number in range(count):
            ask(database, f"job {number}", model="tiny", steps=1)
        wait_for(lambda: all(job.status in ENDED for job in jobs_of(database)), 6 * PATIENCE)
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    first, last = after(30), after(970)
    worker.ask_to_stop()
    working.join()
    assert {job.status for job in jobs_of(database)} == {"completed"}
    assert last < first + 30e6, f"{(last - first) / 1e6:.0f} MB more after 1,000 jobs"
