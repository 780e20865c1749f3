"""Reaching a Ray cluster, or starting one on this machine alone; and what of a worker's settings holds on other machines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from sqlalchemy.engine import make_url

from phonofilm.errors import InputError, MissingExtraError, PhonofilmError
from phonofilm.serving.cluster.replicas import ReplicaRange
from phonofilm.serving.settings import WorkerSettings

logger = logging.getLogger(__name__)

LOCAL = "local"
START_TRIES = 3
OBJECT_STORE_BYTES = 100 * 2**20  # jobs and clips do not pass through Ray


@dataclass(frozen=True)
class ClusterSettings:
    """address: "local" starts Ray here, for as long as it is used; "auto" or HOST:PORT is one that runs already.

    replicas: how many workers; None is as many as the cluster has places for. shows_logs: workers' logs are shown here.
    """

    address: str
    replicas: ReplicaRange | None
    shows_logs: bool = True


@contextmanager
def ray_session(address: str, shows_logs: bool = True) -> Iterator[Any]:
    """The module `ray`, connected as long as the block lasts. Raises MissingExtraError, and InputError for no cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # a line about a job is not one about another
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "cluster") from error
    common: dict[str, Any] = {"namespace": "phonofilm", "logging_level": "WARNING", "log_to_driver": shows_logs}
    with TemporaryDirectory(prefix="phonofilm-ray-", ignore_cleanup_errors=True) as folder:
        if address == LOCAL:
            _start_here(ray, {"include_dashboard": False, "_temp_dir": folder, **common})
        else:
            try:
                ray.init(address=address, **common)
            except Exception as error:  # Ray raises plain ones
                reason = _first_line(error)
                raise InputError(
                    f"no Ray cluster at {address!r}: {reason}; start one with `ray start --head`"
                ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _start_here(ray: Any, options: dict[str, Any]) -> None:
    """Start Ray on this machine. It gives its own processes 30 s, which a machine with other work overruns: tried again."""
    for attempt in range(1, START_TRIES + 1):
        try:
            ray.init(address="local", object_store_memory=OBJECT_STORE_BYTES, **options)
            return
        except Exception as error:  # Ray raises plain ones
            ray.shutdown()
            _end_processes(options["_temp_dir"])
            if attempt == START_TRIES:
                raise PhonofilmError(f"Ray could not be started on this machine: {_first_line(error)}") from error
            logger.warning("Ray did not start: %s; trying again", _first_line(error))


def _end_processes(folder: str) -> None:
    """End what a start that failed has left running: Ray knows of its processes only once all of them are up."""
    left = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any(folder in word for word in process.cmdline()):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=10)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def check_reach(nodes: list[dict[str, Any]], settings: WorkerSettings) -> None:
    """Raises InputError when the cluster has several machines and the settings name an SQLite file."""
    machines = {node["NodeManagerAddress"] for node in nodes if node["Alive"]}
    if len(machines) > 1 and make_url(settings.database_url).get_backend_name() == "sqlite":
        raise InputError(
            f"the Ray cluster has {len(machines)} machines, and SQLite is a file of one: name a PostgreSQL database "
            "with --database-url postgresql://..., or in PHONOFILM_DATABASE_URL"
        )


def for_other_folders(settings: WorkerSettings) -> WorkerSettings:
    """The settings with whole paths: a worker of Ray is started in another folder."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).absolute()))
    store = settings.store if "://" in settings.store else str(Path(settings.store).absolute())
    models = {
        name: str(Path(source).absolute()) if Path(source).is_dir() else source
        for name, source in settings.models.items()
    }
    address = url.render_as_string(hide_password=False)
    return replace(settings, models=models, database_url=address, store=store)


def check_device(device: str) -> None:
    """Raises InputError for one GPU by number, which is Ray's to choose."""
    if device not in ("auto", "cuda", "cpu", "mps"):
        raise InputError(f"--device {device}: Ray chooses each worker's GPUs; use --device cuda")


def gpus_of(settings: WorkerSettings, resources: dict[str, float]) -> int:
    """GPUs of one worker: none on a CPU, and where the cluster has none.

    Raises InputError for one GPU by number, and PhonofilmError for more GPUs than there are.
    """
    device, there = settings.hardware.device, int(resources.get("GPU", 0))
    check_device(device)
    if device in ("cpu", "mps") or (device == "auto" and not there):
        return 0
    if settings.hardware.gpus > there:
        raise PhonofilmError(f"a worker needs {settings.hardware.gpus} GPUs, and the Ray cluster has {there}")
    return settings.hardware.gpus


def as_many_as_fit(gpus: int, resources: dict[str, float]) -> ReplicaRange:
    """At most one worker for each group of GPUs; on CPUs, whose cores a clip uses anyway, one."""
    return ReplicaRange(1, max(1, int(resources.get("GPU", 0)) // gpus) if gpus else 1)
