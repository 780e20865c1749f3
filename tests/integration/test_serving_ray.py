"""Workers on Ray: they share the queue, are replaced when they die or their machine does, and no job is made twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serving_helpers import ask, new_database

from phonofilm.serving.cluster.ray_cluster import ClusterSettings
from phonofilm.serving.cluster.ray_workers import RayWorkers
from phonofilm.serving.cluster.replicas import parse_replicas
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.job import COMPLETED, IN_PROGRESS, Job
from phonofilm.serving.jobs.job_queue import find
from phonofilm.serving.jobs.roster import living_workers
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.settings import WorkerSettings

pytestmark = pytest.mark.slow
MAKER = "tests.serving_stub:SlowStubMaker"
PATIENCE = 600.0


def until(happened: Callable[[], Any]) -> Any:
    """What `happened` gives once it gives something. The time-out is only there to fail."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.fixture(scope="module", autouse=True)
def _ray_is_quiet() -> None:
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = new_database(tmp_path)
    yield database
    database.close()


def workers_on(folder: Path, database: Database, address: str, replicas: str, **settings: Any) -> RayWorkers:
    worker = WorkerSettings(
        models={"nano": "nano"}, database_url=f"sqlite:///{folder}/jobs.db", store=str(folder / "files"), **settings
    )
    cluster = ClusterSettings(address, parse_replicas(replicas))
    return RayWorkers(worker, database, cluster, lambda: pytest.fail("a worker gave up"), maker=MAKER)


def now(database: Database, job: Job) -> Job:
    found = find(database, job.id, OPEN_ACCESS)
    assert found is not None
    return found


def in_progress(database: Database, jobs: list[Job]) -> list[Job]:
    return [job for one in jobs if (job := now(database, one)).status == IN_PROGRESS]


def done(database: Database, jobs: list[Job]) -> bool:
    return all(now(database, job).status == COMPLETED for job in jobs)


def test_replicas_share_the_queue_and_a_killed_one_is_replaced(tmp_path: Path, database: Database) -> None:
    workers = workers_on(tmp_path, database, "local", "1:2")
    # The first two are long enough to be still running when one of their workers has been found and killed.
    jobs = [ask(database, f"clip {number}", steps=80 if number < 2 else 4) for number in range(8)]
    workers.start()
    try:
        until(lambda: len([one for one in workers.replicas if one.worker]) == 2)  # eight jobs wait: as many as may be
        running = until(lambda: both if len(both := in_progress(database, jobs)) == 2 else None)[0]
        victim = running.worker
        (replica,) = [one for one in workers.replicas if one.worker == victim]
        os.kill(workers._ray.get(replica.actor.place.remote()).pid, signal.SIGKILL)
        until(lambda: done(database, jobs))
        until(lambda: len([one for one in workers.replicas if one.worker]) == 2)
        assert victim not in [one.worker for one in workers.replicas]
        ended = [now(database, job) for job in jobs]
        assert now(database, running).attempt == 2
        assert sum(job.attempt for job in ended) == len(jobs) + 1
        for job in ended:  # each clip once, and none of the attempt that died
            assert {name.split("/")[2].split("-")[0] for name in job.outputs[0].values()} == {str(job.attempt)}
    finally:
        workers.stop()
    assert living_workers(database) == []


@pytest.mark.parametrize("hangs_in", ["import", "open"])
def test_a_worker_that_hangs_while_it_starts_is_replaced(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, hangs_in: str
) -> None:
    monkeypatch.setattr("phonofilm.serving.worker.silence.LISTEN_SECONDS", 1.0)
    monkeypatch.setenv("PHONOFILM_TEST_HANGS", f"{tmp_path}/hangs-{hangs_in}")
    workers = workers_on(tmp_path, database, "local", "1", start=30.0)
    workers.maker = f"tests.serving_stub:maker_that_hangs_once_in_{hangs_in}"
    job = ask(database, "a clip")
    workers.start()
    try:
        first = until(lambda: workers.replicas and workers.replicas[0])
        until(lambda: done(database, [job]))
        assert first not in workers.replicas
        assert now(database, job).attempt == 1
    finally:
        workers.stop()


def test_a_lost_machine_costs_an_attempt_and_no_job(tmp_path: Path, database: Database) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
    workers = workers_on(tmp_path, database, cluster.address, "1", lease=60.0)
    jobs = [ask(database, f"clip {number}") for number in range(3)]
    try:
        workers.start()
        running = until(lambda: in_progress(database, jobs))[0]
        (replica,) = workers.replicas
        where = workers._ray.get(replica.actor.place.remote())
        cluster.remove_node(next(node for node in nodes if node.node_id == where.node), allow_graceful=False)
        until(lambda: done(database, jobs))
        assert now(database, running).attempt == 2
        again = workers._ray.get(workers.replicas[0].actor.place.remote())
        assert again.node != where.node
        assert (where.gpus, again.gpus) == ("0", "0"), "each saw the GPU that Ray gave it"
    finally:
        workers.stop()
        cluster.shutdown()
