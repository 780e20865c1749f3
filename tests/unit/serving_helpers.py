"""Databases and services for tests of serving: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn

import pytest
from fastapi.testclient import TestClient

from phonofilm.serving.api.app import create_app
from phonofilm.serving.api.services import ApiSettings, Services
from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.jobs.job import Job, JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import NewJob, Room, enter
from phonofilm.serving.security.access import OPEN_ACCESS, Access
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
)


def new_database(folder: Path) -> Database:
    """An SQLite database with its tables."""
    database = open_database(f"sqlite:///{folder}/jobs.db")
    migrate(database)
    return database


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, or None where its server is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def skip_without(what: str) -> NoReturn:
    """Skip a test for want of a program; in CI, whose machines have or install it, the test fails."""
    if os.environ.get("PHONOFILM_REQUIRE_SERVICES"):
        pytest.fail(f"{what}, and PHONOFILM_REQUIRE_SERVICES forbids to skip the tests that need it")
    pytest.skip(what)


def require_postgres() -> Path:
    """The folder of PostgreSQL's programs."""
    programs = postgres_programs()
    if programs is None:
        skip_without("PostgreSQL's server is not installed (initdb is not found)")
    return programs


class Postgres:
    """A PostgreSQL server of our own, which listens on a socket in a folder and nowhere else."""

    def __init__(self, programs: Path) -> None:
        self.folder = Path(mkdtemp(prefix="pg"))  # short: a socket's path has at most 107 bytes
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        asks = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            asks = ["runuser", "-u", "postgres", "--"]
        data = self.folder / "data"
        self._control = [*asks, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", "600"]
        _quietly([*asks, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-N", "-U", "postgres"])

    def start(self) -> None:
        _quietly([*self._control, "-o", f"-F -k {self.folder} -c listen_addresses=''", "start"])

    def stop(self) -> None:
        """At once, as when its machine goes."""
        _quietly([*self._control, "-m", "immediate", "stop"])


def _quietly(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@contextmanager
def running_postgres(programs: Path) -> Iterator[Postgres]:
    """A PostgreSQL server, started; its folder is removed at the end."""
    server = Postgres(programs)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with running_postgres(programs) as server:
        yield server.url


def ask(
    database: Database,
    prompt: str = "a ball",
    *,
    access: Access = OPEN_ACCESS,
    model: str = "nano",
    priority: int = 0,
    room: Room | None = None,
    key: str | None = None,
    body_hash: str | None = None,
    seed: int | None = None,
    **options: Any,
) -> Job:
    """A job put into the queue, with these options beside its prompt."""
    request = JobRequest({"prompt": prompt, **options}, seeds=[seed])
    new = NewJob(new_job_id(), request, model, priority, idempotency_key=key, body_hash=body_hash)
    return enter(database, new, access, room or Room())[0]


def services_in(folder: Path, database: Database | None = None, **settings: Any) -> Services:
    """Services on a folder; `settings` are those of WorkerSettings."""
    worker = WorkerSettings(
        models={"nano": "nano", "big": "big"},
        database_url=f"sqlite:///{folder}/jobs.db",
        store=str(folder / "files"),
        **settings,
    )
    api = ApiSettings(key_seconds=0)  # a test's keys change from one request to the next
    return Services(database or new_database(folder), FolderStore(folder / "files"), worker, api)


def client_of(services: Services) -> TestClient:
    """A client that asks the app in this process."""
    return TestClient(create_app(services), raise_server_exceptions=False)
