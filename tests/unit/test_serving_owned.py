"""A database that belongs to another store or a newer program, texts that it cannot keep, and limits that no queue has."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from tests.serving_stub import StubMaker, worker_thread
from tests.unit.http_stub import StubHandler, listening
from tests.unit.serving_helpers import ask, client_of, new_database, services_in

from phonofilm.data.endpoint import Endpoint, EndpointError
from phonofilm.errors import InputError
from phonofilm.serving.api.services import Services
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.migrate import migrate
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.clip_rows import search_text
from phonofilm.serving.jobs.job_queue import find
from phonofilm.serving.jobs.sweep import sweep_files
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.security.api_keys import KeyLimits
from phonofilm.serving.store import belonging
from phonofilm.serving.store.belonging import require_own_store
from phonofilm.serving.store.bucket import BucketStore
from phonofilm.serving.store.folder_store import FolderStore
from phonofilm.serving.store.interface import MARKER, Store, StoreError, open_store
from phonofilm.serving.worker.loop import Worker


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path)


@pytest.fixture(params=["folder", "bucket"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Store]:
    if request.param == "folder":
        return FolderStore(tmp_path / "a"), FolderStore(tmp_path / "b")
    memory = pytest.importorskip("obstore.store").MemoryStore
    return BucketStore(memory()), BucketStore(memory())


def test_a_database_keeps_to_one_store(
    stores: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(belonging, "PATIENCE_SECONDS", 0.0)
    database, (own, other) = new_database(tmp_path), stores
    for _ in range(2):
        require_own_store(database, own, "own")
    with pytest.raises(InputError, match="in another store than other: give that one with --store"):
        require_own_store(database, other, "other")
    other.set_mark(own.mark())  # as the message says, for a copy
    require_own_store(database, other, "other")


def test_a_store_of_another_database_is_another_store(stores: tuple[Store, Store], tmp_path: Path) -> None:
    one, two = ((tmp_path / name) for name in ("one", "two"))
    for folder, store in ((one, stores[0]), (two, stores[1])):
        folder.mkdir()
        require_own_store(new_database(folder), store, "own")
    with pytest.raises(InputError, match="another store"):
        require_own_store(new_database(one), stores[1], "other")


def test_a_store_with_an_owner_is_not_taken_over_and_nothing_of_before_is_swept(tmp_path: Path) -> None:
    for name in ("one", "two", "old"):
        (tmp_path / name).mkdir()
    store, file = FolderStore(tmp_path / "files"), tmp_path / "files" / "outputs" / "video_1" / "1-0-video.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    for place in (file, file.parent):
        os.utime(place, (0, 0))
    own = new_database(tmp_path / "one")
    require_own_store(own, store, "files")
    assert sweep_files(own, store) == 0, "it was there before"
    other = new_database(tmp_path / "two")
    for _ in range(2):
        with pytest.raises(InputError, match="another job database than this one"):
            require_own_store(other, store, "files")
    (tmp_path / "files" / MARKER).unlink()  # as the message says
    require_own_store(other, FolderStore(tmp_path / "files"), "files")
    assert (sweep_files(other, store), file.exists()) == (0, True)


@pytest.mark.parametrize("place", ["s3://", "s3:///x", "s3:/bucket/x", "gs://bucket"])
def test_an_address_of_no_bucket_is_called_that(place: str) -> None:
    with pytest.raises(InputError, match="is neither a folder nor s3://BUCKET/PREFIX"):
        open_store(place)


def test_a_worker_that_is_to_stop_waits_no_longer_than_its_lease_for_a_database(services: Services) -> None:
    worker = Worker(replace(services.worker, lease=0.05), StubMaker())
    worker.stop.set()

    def away() -> None:
        raise OperationalError("", {}, Exception("gone"))

    with pytest.raises(OperationalError):
        worker._patiently(away)


def test_the_mark_of_an_older_store_is_written_and_one_that_is_away_is_not_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = new_database(tmp_path)
    store = FolderStore(tmp_path / "files")
    assert (tmp_path / "files" / MARKER).read_text() == ""
    require_own_store(database, store, "own")
    assert len(store.mark()) == 32
    (tmp_path / "files").rename(tmp_path / "moved")
    with pytest.raises(StoreError):
        store.mark()
    require_own_store(database, store, "own")
    assert "whether it is the database's own store is not known" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/v1/videos", {"prompt": "a\0b"}),
        ("POST", "/v1/videos", {"prompt": "a", "negative_prompt": "\0"}),
        ("POST", "/v1/videos/{id}/remix", {"prompt": "a\0b"}),
        ("PATCH", "/v1/videos/{id}", {"prompt": "a\0b"}),
    ],
)
def test_a_nul_in_a_text_is_refused_at_the_door(
    services: Services, method: str, path: str, fields: dict[str, str]
) -> None:
    client, job = client_of(services), ask(services.database, "A lamp.")
    answer = client.request(method, path.format(id=job.id), json=fields)
    assert (answer.status_code, "NUL" in answer.json()["error"]["message"]) == (400, True)
    if method == "POST" and path == "/v1/videos":
        assert client.post(path, data={"model": "nano", **fields}).status_code == 400


def test_a_job_of_before_with_a_nul_can_be_searched_for() -> None:
    assert search_text("a\0b", "T\0", "nano", 7, ()) == "t ab nano 7"


def test_what_the_database_does_not_take_fails_the_job_and_not_the_worker(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> bool:
        raise DataError("INSERT", {}, Exception("PostgreSQL text fields cannot contain NUL"))

    monkeypatch.setattr(Claims, "complete", refuse)
    job = ask(services.database, "A lamp.")
    worker, thread = worker_thread(services.worker, StubMaker())
    while (now := find(services.database, job.id, OPEN_ACCESS)) is None or now.status != "failed":
        assert thread.is_alive()
        time.sleep(0.01)
    assert now.error_code == "internal_error"
    worker.ask_to_stop()
    thread.join()


def test_errors_of_statements_hold_no_prompts(tmp_path: Path) -> None:
    database = new_database(tmp_path)
    for engine in (database.writer, database.reader):
        with pytest.raises(DBAPIError) as error, engine.connect() as connection:
            connection.execute(text("SELECT :prompt FROM nowhere"), {"prompt": "SECRET"})
        assert "SECRET" not in str(error.value)


def test_a_newer_programs_database_is_called_that(tmp_path: Path) -> None:
    database: Database = new_database(tmp_path)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match="made by a newer Phonofilm"):
        migrate(database)


@pytest.mark.parametrize("limits", [{"max_queued": 10**30}, {"best_priority": -(10**24)}, {"max_bytes": 0}])
def test_limits_that_nothing_has_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(InputError, match="a key's limit"):
        KeyLimits(**limits)


def test_what_an_endpoint_says_of_a_prompt_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    class Repeats(StubHandler):
        def do_POST(self) -> None:
            self.reply(500, {"error": "bad prompt: SECRET"})

    caplog.set_level(logging.INFO)
    with listening(Repeats) as url, pytest.raises(EndpointError, match="SECRET"):
        Endpoint(f"{url}/v1", "m", retries=1, first_delay=0.001).chat("SECRET")
    assert "127.0.0.1: status 500; trying again" in caplog.text
    assert "SECRET" not in caplog.text
