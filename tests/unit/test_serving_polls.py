"""Many clients that ask for the state of jobs: few statements for all of them, and nobody sees more or older than alone."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp, Message
from tests.serving_stub import FACTS
from tests.unit.serving_helpers import ask, client_of, new_database, services_in

from phonofilm.serving.api.app import create_app
from phonofilm.serving.api.guard import Guard
from phonofilm.serving.api.job_reader import JobReader
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.status_polls import StatusPolls
from phonofilm.serving.api.warm_up import warm_up
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.job import Job
from phonofilm.serving.jobs.job_queue import cancel_job
from phonofilm.serving.jobs.roster import write_setting
from phonofilm.serving.security.access import OPEN_ACCESS, Access
from phonofilm.serving.security.api_keys import create_key, revoke_key
from phonofilm.serving.security.browser_sessions import end_session, start_session
from phonofilm.serving.security.keyring import Admitted, Keyring

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


def calls_of(ask_once: Callable[[], object]) -> int:
    """How many calls, of Python's functions and others, this thread makes meanwhile: the same on every machine."""
    count = 0

    def called(frame: object, kind: str, argument: object) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    sys.setprofile(called)
    try:
        ask_once()
    finally:
        sys.setprofile(None)
    return count


async def asked(app: ASGIApp, path: str, headers: Sequence[tuple[str, str]] = ()) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a GET, without a socket."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    given = [(name.encode(), value.encode()) for name, value in (("host", "localhost"), *headers)]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": given,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, sent[1]["body"]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """With a model that a worker has opened, and keys that are remembered."""
    services = services_in(tmp_path)
    services.keyring.seconds = 1000.0
    write_setting(services.database, "facts:nano", FACTS)
    services.facts("nano")
    return services


def test_a_poll_is_answered_as_the_route_would_and_costs_a_fraction_of_it(services: Services) -> None:
    job = ask(services.database)
    app = create_app(services)
    polls = app.app
    assert isinstance(polls, StatusPolls)
    answers: list[tuple[int, dict[str, str], bytes]] = []

    def poll(through: ASGIApp) -> int:
        async def many() -> None:
            answers.extend(await asyncio.gather(*(asked(through, f"/v1/videos/{job.id}") for _ in range(100))))

        return calls_of(lambda: asyncio.run(many()))

    services.keyring.look_up(None)
    by_route = Guard(polls.app, services, app.answers)
    poll(app), poll(by_route)  # the first requests build what the others use
    quick, slow = poll(app), poll(by_route)
    for status, headers, body in answers:
        assert (status, body) == (200, answers[0][2])
        assert headers.keys() == answers[0][1].keys()
        assert headers["openai-poll-after-ms"] == "1000"
    assert app.answers["/v1/videos/{video_id}", 200] == 400
    assert quick < 100 * 250, f"{quick / 100:.0f} calls a poll"
    assert quick < slow / 4, f"{slow / 100:.0f} calls by the route"


def test_what_is_not_plain_is_left_to_the_route(services: Services) -> None:
    job, other = ask(services.database), ask(services.database, model="big")
    key = create_key(services.database, "reader", ["read"])
    writer = create_key(services.database, "writer", ["write"])
    services.keyring.look_up(key)
    services.keyring.look_up(writer)
    app = create_app(services)

    def status(video_id: str, *headers: tuple[str, str]) -> int:
        return asyncio.run(asked(app, f"/v1/videos/{video_id}", headers))[0]

    bearer = ("authorization", f"Bearer {key}")
    assert status(job.id) == 401
    assert status(job.id, ("authorization", "Bearer wrong")) == 401
    assert status(job.id, ("authorization", f"Basic {key}")) == 401
    assert status(job.id, ("authorization", f"Bearer {writer}")) == 403
    assert status(job.id, bearer) == 404  # not this key's
    assert status("video_none", bearer) == 404
    mine = ask(services.database, access=Access(services.keyring.look_up(key).access.owner, frozenset({"read"})))  # type: ignore[union-attr]
    assert status(mine.id, bearer) == 200
    assert status(mine.id, bearer, ("cookie", "phonofilm=1")) == 200
    assert status(other.id, ("authorization", f"bearer {create_key(services.database, 'admin', ['admin'])}")) == 200
    cancel_job(services.database, mine)
    assert asyncio.run(asked(app, f"/v1/videos/{mine.id}", [bearer]))[1].get("openai-poll-after-ms") is None
    services.database.close()


def test_the_server_builds_its_routes_before_the_first_client_comes(services: Services) -> None:
    app = create_app(services)
    warm_up(app)
    assert not app.answers
    with client_of(services) as client:
        assert client.get("/v1/videos/none").status_code == 404
