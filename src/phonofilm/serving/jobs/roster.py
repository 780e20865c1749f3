"""Who works: workers say that they live, what they hold and what their models can do; servers read it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import SETTING, WORKER

STARTING, READY, BUSY = "starting", "ready", "busy"
# Of a worker that lives, while the server of another engine that makes its clips does not answer.
ENGINE_AWAY = "engine_away"
ALIVE_SECONDS = 30.0


@dataclass(frozen=True)
class WorkerReport:
    """What a worker says of itself. models: those it serves; memory: bytes in use."""

    id: str
    state: str
    models: Sequence[str]
    memory: float


def report_worker(database: Database, report: WorkerReport) -> None:
    """Write the worker's row."""
    values = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "state": report.state,
        "models": list(report.models),
        "memory": report.memory,
        "seen_at": DatabaseNow(),
    }
    _put(database, WORKER, "id", report.id, values)


def remove_worker(database: Database, worker: str) -> None:
    """The worker has ended."""
    with database.write() as connection:
        connection.execute(delete(WORKER).where(WORKER.c.id == worker))


def living_workers(database: Database) -> list[dict[str, Any]]:
    """The rows of the workers that were heard of lately."""
    statement = select(*WORKER.c).where(WORKER.c.seen_at > DatabaseNow() - ALIVE_SECONDS)
    with database.read() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def last_report(database: Database, worker: str) -> tuple[float, str] | None:
    """When the worker last reported, in the database's seconds, and its state; None for one that has not, or has ended."""
    with database.read() as connection:
        row = connection.execute(select(WORKER.c.seen_at, WORKER.c.state).where(WORKER.c.id == worker)).first()
    return None if row is None else (float(row.seen_at), str(row.state))


def model_facts(database: Database, model: str) -> dict[str, Any] | None:
    """Default sizes and factors of a model, as a worker that has opened it wrote them down; None before that."""
    facts = read_setting(database, f"facts:{model}")
    return facts if isinstance(facts, dict) else None


_SETTING = select(SETTING.c.value).where(SETTING.c.name == bindparam("wanted"))


def read_setting(database: Database, name: str) -> Any:
    """A value that servers share, or None."""
    with database.read() as connection:
        return connection.execute(_SETTING, {"wanted": name}).scalar()


def write_setting(database: Database, name: str, value: Any) -> None:
    """Replace a value that servers share."""
    _put(database, SETTING, "name", name, {"value": value})


def first_setting(database: Database, name: str, value: Any) -> Any:
    """The value that is there, or this one, which then is, whoever else asks at the same moment."""
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    with database.write() as connection:
        connection.execute(insert(SETTING).values(name=name, value=value).on_conflict_do_nothing())
    return read_setting(database, name)


def _put(database: Database, table: Table, key: str, name: str, values: dict[str, Any]) -> None:
    """Insert the row, or change it where it is there, in one statement."""
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    statement = insert(table).values({key: name, **values}).on_conflict_do_update(index_elements=[key], set_=values)
    with database.write() as connection:
        connection.execute(statement)
