"""Many clients that ask for the state of jobs: few statements for all of them, and nobody sees more or older than alone."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.unit.serving_helpers import ask, new_database

from phonofilm.serving.api.job_reader import JobReader
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.book import cancel_job
from phonofilm.serving.jobs.job import Job
from phonofilm.serving.security.access import OPEN_ACCESS, Access
from phonofilm.serving.security.browser_sessions import end_session, start_session
from phonofilm.serving.security.keyring import Admitted, Keyring
from phonofilm.serving.security.keys import create_key, revoke_key

READER = Access("somebody", frozenset({"read"}))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return new_database(tmp_path)


def test_two_hundred_clients_cost_one_statement_and_see_what_is_theirs(database: Database) -> None:
    mine, other = ask(database, access=READER), ask(database)
    statements: list[str] = []
    event.listen(database.reader, "before_cursor_execute", lambda *words: statements.append(words[2]))
    reader = JobReader(database)

    async def many() -> list[Job | None]:
        names = [mine.id, other.id, "video_none", "../etc"]
        return list(await asyncio.gather(*(reader.find(names[index % 4], READER) for index in range(200))))

    assert asyncio.run(many()) == [mine, None, None, None] * 50
    assert len(statements) == 1


def test_what_was_written_is_seen_by_the_next_look(database: Database) -> None:
    job = ask(database)
    reader = JobReader(database)

    async def before_and_after() -> list[str]:
        seen = []
        for hide in (False, True):
            found = await reader.find(job.id, OPEN_ACCESS)
            assert found is not None
            seen.append(found.status)
            cancel_job(database, job, hide=hide)
        assert await reader.find(job.id, OPEN_ACCESS) is None  # deleted
        return seen

    assert asyncio.run(before_and_after()) == ["queued", "cancelled"]


def test_a_database_that_is_gone_is_said_to_everybody_who_waits(database: Database, tmp_path: Path) -> None:
    job = ask(database)
    reader = JobReader(database)
    database.close()
    for file in tmp_path.glob("jobs.db*"):
        file.unlink()
    shutil.rmtree(tmp_path)

    async def many() -> list[Job | BaseException | None]:
        asks = (reader.find(job.id, OPEN_ACCESS) for _ in range(3))
        return list(await asyncio.gather(*asks, return_exceptions=True))

    assert {type(answer) for answer in asyncio.run(many())} == {OperationalError}


def test_a_key_is_remembered_for_a_moment_and_a_revoked_one_no_longer(database: Database) -> None:
    now = 0.0
    ring = Keyring(database, seconds=1.0, clock=lambda: now)
    assert ring.look_up(None) == Admitted(OPEN_ACCESS)
    key = create_key(database, "studio")
    assert ring.recall(key) is None
    found = ring.look_up(key)
    assert found is not None
    assert ring.recall(key) == found
    revoke_key(database, "studio")
    assert (ring.recall(key), ring.recall("wrong")) == (found, None)
    now = 1.0
    assert (ring.recall(key), ring.recall(None)) == (None, None)
    assert (ring.look_up(key), ring.look_up(None)) == (None, None)


def test_a_session_is_remembered_as_one_and_forgotten_when_it_ends(database: Database) -> None:
    ring = Keyring(database, clock=lambda: 0.0)
    session = start_session(database, create_key(database, "studio"))
    found = ring.look_up(None, session)
    assert found is not None
    assert found.by_session
    assert (ring.recall(None, session), ring.recall(None), ring.recall(session)) == (found, None, None)
    assert session is not None
    end_session(database, session)
    ring.forget()
    assert (ring.recall(None, session), ring.look_up(None, session)) == (None, None)


def test_that_keys_were_made_is_asked_until_it_is_so(database: Database) -> None:
    ring = Keyring(database)
    assert (ring.has_keys(), ring.knows_of_keys) == (False, False)
    create_key(database, "studio")
    assert (ring.has_keys(), ring.knows_of_keys) == (True, True)
