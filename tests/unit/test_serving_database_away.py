"""An SQLite database that is moved, removed or full: nothing is written elsewhere, and it is said until it is over."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.serving_processes import jobs_of
from tests.unit.serving_helpers import ask, client_of, new_database, services_in

from phonofilm.serving.api.services import Services
from phonofilm.serving.database.engines import open_database
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.sweep import show_that_it_can_be_written, sweep_jobs


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    services = services_in(tmp_path)
    yield services
    services.close()
    services.database.close()


@pytest.fixture
def client(services: Services) -> TestClient:
    return client_of(services)


def asked(client: TestClient) -> tuple[int, str | None]:
    answer = client.post("/v1/videos", json={"prompt": "a ball"})
    return answer.status_code, (answer.json().get("error") or {}).get("code")


@pytest.mark.parametrize("with_open_connections", [True, False])
def test_a_database_that_was_moved_away_is_not_made_anew_and_is_used_again_when_it_is_back(
    client: TestClient, services: Services, tmp_path: Path, with_open_connections: bool
) -> None:
    assert asked(client)[0] == 200
    file, away = tmp_path / "jobs.db", tmp_path / "away.db"
    if not with_open_connections:
        services.database.close()
    file.rename(away)
    assert asked(client) == (503, "database_unavailable")
    assert client.get("/v1/videos").status_code == 503
    assert client.get("/health").json()["status"] == "degraded"
    assert not file.exists()
    away.rename(file)
    assert asked(client)[0] == 200
    assert len(jobs_of(services.database)) == 2


def test_no_job_goes_into_another_file_at_the_databases_place(
    client: TestClient, services: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert asked(client)[0] == 200
    file, away = tmp_path / "jobs.db", tmp_path / "away.db"
    file.rename(away)
    shutil.copyfile(away, file)
    assert [asked(client) for _ in range(3)] == [(503, "database_unavailable")] * 3
    (line,) = [one.getMessage() for one in caplog.records if "job database" in one.getMessage()]
    assert "another file is in its place; put the first one back, or start again" in line
    away.replace(file)
    assert asked(client)[0] == 200


def test_a_job_whose_file_is_removed_while_it_is_entered_is_not_acknowledged(
    services: Services, tmp_path: Path
) -> None:
    with pytest.raises(OperationalError), services.database.write():
        (tmp_path / "jobs.db").unlink()


def test_a_worker_makes_no_database_and_takes_the_one_that_comes(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/jobs.db"
    worker = open_database(address, may_create=False)
    with pytest.raises(OperationalError), worker.read():
        pass
    assert not (tmp_path / "jobs.db").exists()
    job = ask(new_database(tmp_path))
    assert [one.id for one in jobs_of(worker)] == [job.id]


def test_a_databases_path_may_hold_what_addresses_give_a_meaning(tmp_path: Path) -> None:
    folder = tmp_path / "50% off #1"
    folder.mkdir()
    assert new_database(folder).file is not None
    assert (folder / "jobs.db").stat().st_size > 0


@pytest.fixture
def full(services: Services) -> Iterator[Callable[[bool], None]]:
    """Says of the database's disk whether it is full."""

    def fill(is_full: bool) -> None:
        services.database.close()
        pages[0] = 1 if is_full else 2**30

    def limit(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages[0]}")

    pages = [2**30]
    event.listen(services.database.writer, "connect", limit)
    yield fill
    event.remove(services.database.writer, "connect", limit)


def test_a_full_disk_is_said_once_by_all_who_are_asked_until_something_was_written(
    client: TestClient, services: Services, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "phonofilm.serving.database")
    while_full = "the job database cannot be written: its disk is full"
    ask(services.database)
    full(True)
    for _ in range(3):
        answer = client.post("/v1/videos", json={"prompt": "a ball" * 1000})  # more than a page
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        assert answer.json()["error"]["message"] == f"{while_full} at the moment; try again"
        assert client.get("/v1/videos").status_code == 200
        sweep_jobs(services.database, services.store, None)  # a transaction that changes nothing
        health = client.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["reason"]) == (503, "degraded", while_full)
        lines = client.get("/metrics").text.splitlines()
        assert "phonofilm_database_up 0.0" in lines
        assert 'phonofilm_jobs{status="queued"} 1.0' in lines, "it is still read"
    full(False)
    show_that_it_can_be_written(services.database)
    assert client.get("/health").json()["status"] == "no_worker"
    assert "phonofilm_database_up 1.0" in client.get("/metrics").text.splitlines()
    said = [one.getMessage() for one in caplog.records if "database" in one.getMessage()]
    assert said == [
        f"{while_full} (OperationalError); it is asked again until it is back",
        "the job database is back",
    ]


def test_deleting_a_clip_makes_the_room_in_which_that_is_written(
    client: TestClient, services: Services, tmp_path: Path
) -> None:
    job = ask(services.database)
    claims = Claims(services.database, "a")
    claimed = claims.claim(["nano"], [], 60)
    name = f"outputs/{job.id}/1-0.mp4"
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    services.store.put(name, tmp_path / "clip.mp4")
    assert claimed is not None
    assert claims.complete(claimed, [{"video": name}], {}, 6, None)
    file = tmp_path / "files" / name

    def refuse(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE") and file.exists():
            reason = sqlite3.OperationalError("database or disk is full")
            reason.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise OperationalError(statement, {}, reason)

    event.listen(services.database.writer, "before_cursor_execute", refuse)
    waiting = ask(services.database)
    assert client.delete(f"/v1/videos/{job.id}").status_code == 200
    assert not file.exists()
    assert client.get(f"/v1/videos/{job.id}").status_code == 404
    assert client.get(f"/v1/videos/{waiting.id}").status_code == 200
