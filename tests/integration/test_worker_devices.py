"""A worker whose clips several devices share, tried on the host: the clip of one, stopped within a step, and a death is said."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.integration.cli import CHECKPOINT, TINY_CLIP, made
from tests.serving_processes import jobs_of, python_path
from tests.unit.serving_helpers import ask, new_database

from phonofilm import read_clip
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.job import ENDED, Job
from phonofilm.serving.jobs.job_queue import cancel_job
from phonofilm.serving.jobs.roster import living_workers
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.worker.supervisor import WorkerProcesses

pytestmark = pytest.mark.slow
PATIENCE = 900.0


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("PYTHONPATH", python_path())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = new_database(tmp_path)
    yield found
    found.close()


@pytest.fixture
def workers(tmp_path: Path, database: Database) -> Iterator[WorkerProcesses]:
    settings = WorkerSettings(
        models={"tiny": str(CHECKPOINT)},
        database_url=str(database.url),
        store=str(tmp_path / "files"),
        hardware=HardwareOptions(device="cpu", gpus=2),
        grace=2.0,
    )
    workers = WorkerProcesses(settings, database, 1, lambda: pytest.fail("the worker gave up"))
    workers.start()
    yield workers
    workers.stop()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def job_of(database: Database, steps: int, size: str = "32x32") -> Callable[[], Job]:
    """A job in the queue; what is returned gives it as it is now."""
    entered = ask(database, "a man speaks", model="tiny", size=size, num_frames=5, steps=steps, seed=1)
    return lambda: next(job for job in jobs_of(database) if job.id == entered.id)


def test_a_worker_shares_a_clip_among_devices_and_stops_it_within_a_step(
    tmp_path: Path, database: Database, workers: WorkerProcesses
) -> None:
    first = job_of(database, 2)
    until(lambda: first().status in ENDED)
    assert (first().status, first().attempt) == ("completed", 1), first().error_message
    (alone,) = made(*TINY_CLIP, "a man speaks", "-o", tmp_path / "alone.mp4", "--device", "cpu")
    with FolderStore(tmp_path / "files").as_file(first().outputs[0]["video"]) as file:
        one, other = read_clip(alone), read_clip(file)
    assert np.abs(one.frames.astype(int) - other.frames.astype(int)).max() <= 2
    (before,) = [row["id"] for row in living_workers(database)]
    long = job_of(database, 200)
    until(lambda: long().step > 1)
    cancel_job(database, long())
    until(lambda: long().status in ENDED)
    assert (long().status, long().step < 200) == ("cancelled", True)
    bad, after = job_of(database, 2, "33x32"), job_of(database, 2)
    until(lambda: after().status in ENDED)
    assert (bad().status, after().status) == ("failed", "completed")
    assert [row["id"] for row in living_workers(database)] == [before]


def test_a_device_whose_process_dies_fails_its_job_with_the_reason_and_no_other(
    database: Database, workers: WorkerProcesses
) -> None:
    job, later = job_of(database, 60), job_of(database, 2)
    until(lambda: job().step > 1)
    (worker,) = psutil.Process(os.getpid()).children()
    ranks = [child for child in worker.children(recursive=True) if not child.children()]
    ranks[-1].send_signal(signal.SIGKILL)
    until(lambda: later().status in ENDED)
    assert (job().status, later().status) == ("failed", "completed")
    assert "SIGKILL" in str(job().error_message)
