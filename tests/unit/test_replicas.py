"""How many workers a cluster has, and which of a server's settings hold on other machines. No Ray is needed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.cluster import ray_workers
from phonofilm.serving.cluster.ray_cluster import ClusterSettings, _start_here, check_reach, for_other_folders, gpus_of
from phonofilm.serving.cluster.replicas import ReplicaRange, Scaling, parse_replicas
from phonofilm.serving.database.engines import open_database
from phonofilm.serving.settings import WorkerSettings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_more_jobs_get_more_workers_at_once_and_fewer_after_a_while() -> None:
    clock = Clock()
    scaling = Scaling(ReplicaRange(1, 4), idle=60, clock=clock)
    assert [scaling.wanted(jobs) for jobs in (0, 2, 100)] == [1, 2, 4]
    clock.now = 59
    assert scaling.wanted(0) == 4
    assert scaling.wanted(4) == 4  # work again: the wait begins anew
    clock.now = 100
    assert scaling.wanted(2) == 4
    clock.now = 120
    assert scaling.wanted(2) == 2
    assert scaling.wanted(0) == 2


def test_a_range_may_begin_at_none() -> None:
    scaling = Scaling(parse_replicas("0:2"))
    assert [scaling.wanted(jobs) for jobs in (0, 1)] == [0, 1]
    assert parse_replicas("3") == ReplicaRange(3, 3)


@pytest.mark.parametrize("text", ["", "0", "-1", "2:1", "0:0", "1:2:3", "many", "1:9999"])
def test_what_is_no_number_of_workers_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="MIN:MAX"):
        parse_replicas(text)


def test_sqlite_is_refused_where_the_cluster_has_several_machines() -> None:
    here, there, gone = ({"NodeManagerAddress": f"10.0.0.{i}", "Alive": i < 3} for i in (1, 2, 3))
    sqlite = WorkerSettings({"nano": "nano"})
    check_reach([here, here, gone], sqlite)
    with pytest.raises(InputError, match=r"2 machines.*--database-url postgresql"):
        check_reach([here, there], sqlite)
    check_reach([here, there], WorkerSettings({"nano": "nano"}, database_url="postgresql://host/jobs"))


class FailingRay:
    """Ray where one of its processes comes up and another does not, three times."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def init(self, *, address: str, object_store_memory: int, _temp_dir: str) -> None:
        words = [sys.executable, "-ISc", "import time; time.sleep(600)", f"--log_dir={_temp_dir}/logs"]
        self.processes.append(subprocess.Popen(words))
        raise RuntimeError("The current node timed out during startup.\nSome raylet failed.")

    def shutdown(self) -> None:
        """Ray knows of no process until all are up."""


def test_a_ray_that_does_not_start_leaves_no_process(tmp_path: Path) -> None:
    ray = FailingRay()
    with pytest.raises(
        PhonofilmError, match=r"Ray could not be started on this machine: The current node timed out[^\n]*$"
    ):
        _start_here(ray, {"_temp_dir": str(tmp_path)})
    assert len(ray.processes) == 3
    assert [one.poll() is not None for one in ray.processes] == [True] * 3


def test_settings_get_whole_paths_and_keep_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    sent = for_other_folders(WorkerSettings({"nano": "nano", "mine": "folder"}))
    assert sent.database_url == f"sqlite:///{tmp_path}/phonofilm-jobs/jobs.db"
    assert sent.store == str(tmp_path / "phonofilm-jobs" / "files")
    assert sent.models == {"nano": "nano", "mine": str(tmp_path / "folder")}
    far = WorkerSettings({"nano": "nano"}, database_url="postgresql://me:pw@host/jobs", store="s3://bucket/p")
    assert for_other_folders(far) == far


def test_ray_chooses_the_gpus_of_a_worker() -> None:
    def gpus(device: str, count: int, there: int) -> int:
        return gpus_of(WorkerSettings({}, hardware=HardwareOptions(device, gpus=count)), {"GPU": float(there)})

    assert [gpus("cpu", 1, 8), gpus("auto", 1, 0), gpus("auto", 1, 8), gpus("cuda", 4, 8)] == [0, 0, 1, 4]
    with pytest.raises(InputError, match="use --device cuda"):
        gpus("cuda:1", 1, 8)
    with pytest.raises(PhonofilmError, match="needs 4 GPUs, and the Ray cluster has 2"):
        gpus("cuda", 4, 2)


def test_a_gpu_by_number_is_refused_before_ray_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "ray_session", lambda *given: pytest.fail("Ray was started"))
    settings = WorkerSettings({}, hardware=HardwareOptions("cuda:1"))
    database = open_database(f"sqlite:///{tmp_path}/jobs.db")
    workers = ray_workers.RayWorkers(settings, database, ClusterSettings("local", None), lambda: None)
    with pytest.raises(InputError, match="--device cuda:1: Ray chooses"):
        workers.start()


class EmptyRay:
    """A cluster that takes any number of workers, and has none yet."""

    def nodes(self) -> list[dict[str, Any]]:
        return []

    def cluster_resources(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(("replicas", "are_coming"), [("1:2", True), ("0:2", False)])
def test_workers_are_coming_before_the_first_of_them_has_been_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replicas: str, are_coming: bool
) -> None:
    monkeypatch.setattr(ray_workers, "ray_session", lambda *given: nullcontext(EmptyRay()))
    without_tables = open_database(f"sqlite:///{tmp_path}/jobs.db")  # so that nobody knows how many jobs wait
    cluster = ClusterSettings("local", parse_replicas(replicas))
    workers = ray_workers.RayWorkers(WorkerSettings({"nano": "nano"}), without_tables, cluster, lambda: None)
    workers.start()
    try:
        assert workers.are_coming is are_coming
        assert workers.come_with_jobs is not are_coming
    finally:
        workers.stop()
    assert not workers.are_coming
    assert not workers.come_with_jobs
