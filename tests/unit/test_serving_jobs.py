"""The table of jobs: who gets which job when, and that each ends once. On SQLite, and on PostgreSQL where it is installed."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, select, text, update
from tests.unit.serving_helpers import Postgres, ask, new_database, postgres_server, require_postgres

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.serving.database.engines import Database, open_database
from phonofilm.serving.database.migrate import NOT_UP_YET, migrate, open_migrated
from phonofilm.serving.database.tables import API_KEY, CLIP, JOB, METADATA
from phonofilm.serving.jobs.claims import Claims, end_lost_jobs, expire_leases, give_back
from phonofilm.serving.jobs.job import JobRequest, MadeClips
from phonofilm.serving.jobs.job_queue import (
    IdempotencyConflict,
    NotWaiting,
    QueueFull,
    Room,
    cancel_job,
    edit_job,
    find,
    page,
    waiting,
)
from phonofilm.serving.jobs.moving import PriorityTooGood, move_job
from phonofilm.serving.jobs.roster import WorkerReport, living_workers, read_setting, report_worker, write_setting
from phonofilm.serving.jobs.sweep import counts_by_status, oldest_waiting_seconds, used_bytes
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.security.api_keys import KeyLimits, access_of, create_key

DAY = 86_400.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "sqlite":
        yield new_database(tmp_path_factory.mktemp("jobs"))
        return
    with postgres_server(require_postgres()) as url:
        database = open_database(url)
        migrate(database)
        yield database
        database.close()


@pytest.fixture
def database(shared: Database) -> Database:
    with shared.write() as connection:
        connection.execute(delete(JOB))
        connection.execute(delete(CLIP))
        connection.execute(delete(API_KEY))
    return shared


def claim(
    database: Database, worker: str = "a", loaded: tuple[str, ...] = ("nano",), switch_after: float = 60.0
) -> str | None:
    job = Claims(database, worker).claim(["nano", "big"], list(loaded), switch_after)
    return None if job is None else job.id


def lose(database: Database, job_id: str) -> None:
    """The worker has fallen silent for longer than its lease."""
    with database.write() as connection:
        connection.execute(update(JOB).where(JOB.c.id == job_id).values(lease_until=1.0))


def test_the_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    migrate(database)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_jobs_are_claimed_by_priority_and_then_in_order(database: Database) -> None:
    ids = [ask(database, priority=priority).id for priority in (0, 5, 0, -1)]
    assert [claim(database) for _ in range(5)] == [ids[3], ids[0], ids[2], ids[1], None]


def test_jobs_of_a_loaded_model_go_first_until_another_has_waited(database: Database) -> None:
    other, same = ask(database, model="big").id, ask(database).id
    assert claim(database, loaded=("nano",)) == same
    same = ask(database).id
    assert claim(database, loaded=("nano",), switch_after=-1.0) == other
    assert claim(database) == same


def test_several_workers_at_once_get_each_job_once(database: Database) -> None:
    ids = {ask(database).id for _ in range(24)}
    taken: list[str] = []

    def work(name: str) -> None:
        while (job := claim(database, name)) is not None:
            taken.append(job)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_who_was_overtaken_can_neither_publish_nor_fail_nor_renew(database: Database) -> None:
    ask(database)
    slow, fast = Claims(database, "slow"), Claims(database, "fast")
    first = slow.claim(["nano"], [], 60)
    assert first is not None
    assert fast.claim(["nano"], [], 60) is None
    lose(database, first.id)
    second = fast.claim(["nano"], [], 60)
    assert second is not None
    assert (second.id, second.attempt, second.strikes) == (first.id, 2, 1)
    assert slow.renew(first, step=1) is None
    assert not slow.complete(first, [{"video": "x"}], {}, 1, DAY)
    assert not slow.fail(first, "x", "x", DAY)
    assert fast.renew(second, step=1, steps=4) is True
    assert fast.complete(second, [{"video": "y"}], {"size": "64x64"}, 7, DAY)
    assert not fast.complete(second, [{"video": "z"}], {}, 1, DAY)
    done = find(database, first.id, OPEN_ACCESS)
    assert done is not None
    assert (done.status, done.outputs, done.nbytes) == ("completed", [{"video": "y"}], 7)
    assert used_bytes(database) == 7


def test_a_job_that_loses_its_worker_three_times_fails_with_the_reason(database: Database) -> None:
    job_id = ask(database).id
    for attempt in range(3):
        assert claim(database, str(attempt)) == job_id
        assert end_lost_jobs(database, DAY) == []
        expire_leases(database, str(attempt))
    assert claim(database) is None
    assert end_lost_jobs(database, DAY) == [job_id]
    job = find(database, job_id, OPEN_ACCESS)
    assert job is not None
    assert (job.status, job.error_code) == ("failed", "worker_lost")
    assert "3 times" in str(job.error_message)


def test_clips_are_published_one_by_one_and_stay_when_another_worker_goes_on(database: Database) -> None:
    asked = ask(database)
    first = Claims(database, "first")
    job = first.claim(["nano"], [], 60)
    assert job is not None
    one = MadeClips([{"video": "1-0"}], {"seeds": [4]}, 10)
    assert first.publish(job, one, DAY) is True
    assert first.publish(job, one, DAY) is True, "an answer that was lost is no second clip"
    lose(database, job.id)
    second = Claims(database, "second")
    again = second.claim(["nano"], [], 60)
    assert again is not None
    assert (again.outputs, again.made, again.nbytes) == ([{"video": "1-0"}], {"seeds": [4]}, 10)
    assert first.publish(job, MadeClips([{"video": "1-0"}, {"video": "1-1"}], {"seeds": [4, 5]}, 20), DAY) is None
    outputs = [{"video": "1-0"}, {"video": "2-1"}]
    assert second.complete(again, outputs, {"seeds": [4, 5]}, 7, DAY)
    with database.read() as connection:
        rows = connection.execute(
            select(CLIP.c.id, CLIP.c.seed).where(CLIP.c.job_id == asked.id).order_by(CLIP.c.number)
        )
        assert rows.all() == [(f"{asked.id}_0", 4), (f"{asked.id}_1", 5)]
    done = find(database, asked.id, OPEN_ACCESS)
    assert done is not None
    assert (done.outputs, done.nbytes) == (outputs, 17)


def test_clips_of_a_job_that_is_cancelled_while_it_waits_again_expire(database: Database) -> None:
    ask(database)
    claims = Claims(database, "a")
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    claims.publish(job, MadeClips([{"video": "1-0"}], {"seeds": [4]}, 10), DAY)
    claims.release(job)
    assert cancel_job(database, job).expires_at is not None


def test_a_worker_that_stops_gives_its_job_back_without_a_strike(database: Database) -> None:
    ask(database)
    claims = Claims(database, "a")
    for attempt in range(1, 5):
        job = claims.claim(["nano"], [], 60)
        assert job is not None
        assert (job.attempt, job.strikes) == (attempt, 0)
        assert claims.release(job)


@pytest.mark.parametrize("by_server", [False, True])
def test_a_job_that_was_to_be_cancelled_when_its_worker_stopped_is_cancelled_and_others_go_back(
    database: Database, by_server: bool
) -> None:
    asked, other = ask(database), ask(database, "another")
    claims = Claims(database, "one")
    held = [claims.claim(["nano"], [], 0), claims.claim(["nano"], [], 0)]
    cancel_job(database, asked)
    if by_server:
        give_back(database, "one")
    else:
        assert all(job is not None and claims.release(job) for job in held)
    found = [find(database, one.id, OPEN_ACCESS) for one in (asked, other)]
    assert [job and (job.status, job.strikes) for job in found] == [("cancelled", 0), ("queued", 0)]
    again = Claims(database, "two").claim(["nano"], [], 0)
    assert again is not None
    assert (again.id, again.strikes) == (other.id, 0)


def test_a_running_job_hears_of_its_cancellation_and_a_lost_one_ends(database: Database) -> None:
    ask(database)
    claims = Claims(database, "a")
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    assert cancel_job(database, job).status == "in_progress"
    assert claims.renew(job) is False
    lose(database, job.id)
    assert claim(database) is None
    assert end_lost_jobs(database, DAY) == [job.id]
    assert counts_by_status(database) == {"cancelled": 1}
    assert cancel_job(database, ask(database)).status == "cancelled"


def test_waiting_jobs_are_edited_and_moved_and_others_are_not(database: Database) -> None:
    jobs = [ask(database, str(number)) for number in range(4)]
    moved = move_job(database, jobs[3], OPEN_ACCESS, 0)
    assert [job.request.prompt for job in moved] == ["3", "0", "1", "2"]
    assert [job.id for job in waiting(database, OPEN_ACCESS)] == [job.id for job in moved]
    changed = edit_job(database, jobs[0], JobRequest({"prompt": "new"}), -5)
    assert (changed.request.prompt, changed.priority) == ("new", -5)
    assert claim(database) == jobs[0].id
    with pytest.raises(NotWaiting):
        edit_job(database, jobs[0], JobRequest({"prompt": "x"}), 0)
    with pytest.raises(NotWaiting):
        move_job(database, jobs[0], OPEN_ACCESS, 0)
    assert oldest_waiting_seconds(database) >= 0


def test_moving_a_job_makes_nobody_elses_wait_longer(database: Database) -> None:
    create_key(database, "mine")
    mine = access_of(database, create_key(database, "also"))
    assert mine is not None
    names = [ask(database, "mine 0", access=mine), ask(database, "other"), ask(database, "mine 1", access=mine)]
    move_job(database, names[2], mine, 0)
    assert [job.request.prompt for job in waiting(database, OPEN_ACCESS)] == ["mine 1", "other", "mine 0"]


def test_a_job_is_moved_to_its_place_in_the_whole_queue(database: Database) -> None:
    urgent, _, late = (ask(database, name, priority=p) for name, p in (("urgent", -5), ("usual", 0), ("late", 9)))
    moved = move_job(database, late, OPEN_ACCESS, 0)
    assert [(job.request.prompt, job.priority) for job in moved] == [("late", -5), ("urgent", -5), ("usual", 0)]
    assert [job.id for job in waiting(database, OPEN_ACCESS)] == [job.id for job in moved]
    moved = move_job(database, urgent, OPEN_ACCESS, 99)
    assert [(job.request.prompt, job.priority) for job in moved] == [("late", -5), ("usual", 0), ("urgent", 0)]
    assert claim(database) == late.id


def test_a_move_keeps_the_priority_that_fits_the_place(database: Database) -> None:
    jobs = [ask(database, str(priority), priority=priority) for priority in (0, 2, 4)]
    middle = ask(database, "middle", priority=3)
    assert [job.priority for job in move_job(database, middle, OPEN_ACCESS, 2)] == [0, 2, 3, 4]
    assert [job.priority for job in move_job(database, jobs[0], OPEN_ACCESS, 0)] == [0, 2, 3, 4]


def test_a_key_moves_no_job_before_those_of_a_priority_that_it_may_not_ask_for(database: Database) -> None:
    mine = access_of(database, create_key(database, "mine"))
    assert mine is not None
    raised, usual = (ask(database, name, access=mine, priority=priority) for name, priority in (("a", -5), ("b", 0)))
    with pytest.raises(PriorityTooGood) as found:
        move_job(database, usual, mine, 0)
    assert found.value.needed == -5
    assert [job.id for job in waiting(database, OPEN_ACCESS)] == [raised.id, usual.id]
    assert [job.id for job in move_job(database, raised, mine, 0)] == [raised.id, usual.id], "it has that priority"


def test_an_idempotency_key_makes_one_job(database: Database) -> None:
    first = ask(database, key="k", body_hash="1")
    assert ask(database, key="k", body_hash="1").id == first.id
    with pytest.raises(IdempotencyConflict):
        ask(database, key="k", body_hash="2")
    assert counts_by_status(database) == {"queued": 1}


def test_the_idempotency_key_of_a_deleted_job_makes_a_new_one(database: Database) -> None:
    deleted = ask(database, key="k", body_hash="1")
    assert claim(database) == deleted.id
    cancel_job(database, deleted, hide=True)
    again = ask(database, key="k", body_hash="2")
    assert (again.id != deleted.id, again.status) == (True, "queued")
    assert ask(database, key="k", body_hash="2").id == again.id


def test_only_what_changes_something_shows_that_a_database_can_be_written_again(database: Database) -> None:
    ask(database)
    database.outages.reason, database.outages.cannot_write = "its disk is full", True
    waiting(database, OPEN_ACCESS)
    end_lost_jobs(database, DAY)
    assert database.outages.reason is not None
    ask(database)
    assert database.outages.reason is None


def test_a_full_queue_says_when_to_come_again(database: Database) -> None:
    ask(database, room=Room(max_queued=1))
    with pytest.raises(QueueFull, match="1 jobs wait") as full:
        ask(database, room=Room(max_queued=1))
    assert (full.value.code, full.value.retry_after >= 1) == ("queue_full", True)
    with database.write() as connection:
        connection.execute(update(JOB).values(nbytes=11))
    with pytest.raises(QueueFull, match="disk quota"):
        ask(database, room=Room(max_bytes=10))


def test_a_keys_limits_hold_for_waiting_and_running_jobs(database: Database) -> None:
    access = access_of(database, create_key(database, "small", limits=KeyLimits(max_queued=2, max_running=1)))
    assert access is not None
    ids = [ask(database, access=access).id for _ in range(2)]
    with pytest.raises(QueueFull, match="this key's part"):
        ask(database, access=access)
    other = ask(database).id
    assert [claim(database), claim(database), claim(database)] == [ids[0], other, None]


def test_pages_follow_each_other_without_a_gap(database: Database) -> None:
    ids = [ask(database).id for _ in range(5)]
    after, seen, more = None, [], True
    while more:
        found = page(database, OPEN_ACCESS, after=after, limit=2, newest_first=False, status="queued")
        assert found is not None
        seen += [job.id for job in found[0]]
        after, more = seen[-1], found[1]
    assert seen == ids
    assert page(database, OPEN_ACCESS, after="video_x", limit=2, newest_first=True, status=None) is None


def test_workers_and_settings_are_written_over(database: Database) -> None:
    for state in ("starting", "ready"):
        report_worker(database, WorkerReport("worker_1", state, ["nano"], 5.0))
        write_setting(database, "loras", [state])
    assert [(worker["id"], worker["state"]) for worker in living_workers(database)] == [("worker_1", "ready")]
    assert read_setting(database, "loras") == ["ready"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://root@localhost/x", "not supported"),
        ("no address", "cannot be read"),
    ],
)
def test_databases_that_cannot_hold_jobs_are_refused(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_database(url)


def test_a_database_that_cannot_be_used_is_named_at_once_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 100)
    for url, reason in (
        (f"sqlite:///{tmp_path}", "cannot open the database"),
        (f"sqlite:///{tmp_path}/text", "file is not a database"),
        (f"sqlite:///{tmp_path}/text/jobs.db", "cannot open the database"),
        ("postgresql://pf:secret@127.0.0.1:1/pf", "127.0.0.1:1/pf cannot be used: .*refused"),
    ):
        with pytest.raises(InputError, match=reason) as refused:
            open_migrated(url)
        assert "secret" not in str(refused.value)


def test_a_database_that_is_not_up_yet_is_waited_for_and_one_that_refuses_us_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Postgres(require_postgres())
    starting = threading.Timer(1.5, server.start)
    starting.start()
    try:
        with caplog.at_level(logging.WARNING):
            open_migrated(server.url, patience=60).close()
        waited = [one.getMessage() for one in caplog.records]
        assert waited
        assert all(one.startswith("waiting for the job database") and "\n" not in one for one in waited)
        assert "No such file or directory" in waited[0]
        began = time.monotonic()
        for name in (server.url.replace("/postgres?", "/other?"), server.url.replace("postgres@", "nobody@")):
            with pytest.raises(InputError, match="does not exist; check --database-url"):
                open_migrated(name, patience=60)
        assert time.monotonic() - began < 30
    finally:
        starting.join()
        server.stop()
        shutil.rmtree(server.folder)
    caplog.clear()
    with pytest.raises(PhonofilmError, match=r"did not come up within 1 s: .*No such file") as given_up:
        open_migrated(server.url, patience=1)
    assert not isinstance(given_up.value, InputError), "another start may do better"
    assert "\n" not in str(given_up.value)


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        ('connection to server at "db" failed: Connection refused', True),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", True),
        ("failed: FATAL:  the database system is starting up", True),
        ('failed: FATAL:  password authentication failed for user "x"', False),
        ("failed: fe_sendauth: no password supplied", False),
        ("failed: server does not support SSL, but SSL was required", False),
    ],
)
def test_only_what_time_can_heal_is_waited_for(reason: str, waits: bool) -> None:
    assert (NOT_UP_YET.search(reason) is not None) is waits


def test_sqlite_is_not_used_across_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phonofilm.serving.database import engines

    monkeypatch.setattr(engines, "_file_system", lambda folder: "nfs4")
    with pytest.raises(InputError, match="network file system"):
        open_database(f"sqlite:///{tmp_path}/jobs.db")


def test_a_copy_of_an_open_sqlite_database_holds_its_jobs(tmp_path: Path) -> None:
    """The documented backup: VACUUM INTO, while the server runs."""
    database = new_database(tmp_path)
    job = ask(database)
    with database.reader.connect() as connection:
        connection.execute(text(f"VACUUM INTO '{tmp_path}/copy.db'"))
    again = find(open_database(f"sqlite:///{tmp_path}/copy.db"), job.id, OPEN_ACCESS)
    assert again == job
