"""An SQLite database that is moved, removed or full: nothing is written elsewhere, and it is said until it is over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from tests.serving_processes import jobs_of
from tests.unit.serving_helpers import ask, client_of, new_database, services_in

from phonofilm.serving.api.services import Services
from phonofilm.serving.database.engines import open_database


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
