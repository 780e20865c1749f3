"""Whole servers as processes, for tests that kill, freeze or starve them; no model is loaded."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
from sqlalchemy import select

from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import Job, job_of
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore
from tests.serving_stub import BODY


def python_path() -> str:
    """PYTHONPATH for processes that import this folder's modules."""
    root = str(Path(__file__).parents[1])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


class Servers:
    """A whole server with two workers, which can be killed and started again.

    longest: seconds after which answers that wait for a clip, and streams of events, end.
    """

    def __init__(self, settings: WorkerSettings, longest: float = 3600.0) -> None:
        self.settings, self.longest = settings, longest
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
            str(self.longest),
        ]
        self.server = subprocess.Popen(
            words, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": python_path()}
        )

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
