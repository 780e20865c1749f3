"""Entering a clip that was made elsewhere: a job that has ended already, with its row in the library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from phonofilm.files import file_hash
from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import CLIP, JOB
from phonofilm.serving.jobs.clip_rows import clip_id, new_clips
from phonofilm.serving.jobs.job import COMPLETED, JobRequest, job_of
from phonofilm.serving.jobs.job_queue import Room, check_bytes
from phonofilm.serving.security.access import Access
from phonofilm.serving.store.interface import NotStored, Store

# Clips of one seed that are looked through: people take the same one again and again.
MOST_OF_ONE_SEED = 50


@dataclass(frozen=True)
class FoundClip:
    """A clip whose files are in the store. outputs: their names by variant; sha256: of the file that was brought in."""

    job_id: str
    request: JobRequest
    model: str
    title: str
    outputs: dict[str, str]
    made: dict[str, Any]
    nbytes: int
    sha256: str


def bring_in(database: Database, found: FoundClip, access: Access, room: Room, keep: float | None) -> str:
    """Enter the clip; its name. Raises QueueFull when a disk quota is used up."""
    now = DatabaseNow()
    values = {
        "id": found.job_id,
        "owner": access.owner,
        "status": COMPLETED,
        "hidden": False,
        "model": found.model,
        "priority": 0,
        "position": now,
        "request": found.request.to_json(),
        "created_at": now,
        "completed_at": now,
        "expires_at": None if keep is None else now + keep,
        "attempt": 1,
        "strikes": 0,
        "cancel_requested": False,
        "step": 0,
        "steps": 0,
        "outputs": [found.outputs],
        "made": found.made,
        "nbytes": found.nbytes,
        "callback_tries": 0,
    }
    with database.write() as connection:
        check_bytes(connection, found.nbytes, access, room)
        row = connection.execute(insert(JOB).values(values).returning(*JOB.c)).mappings().one()
        rows = new_clips(job_of(row), found.made, 1, title=found.title, imported=found.sha256)
        connection.execute(insert(CLIP).values(rows))
    return clip_id(found.job_id, 0)


def brought_in(database: Database, sha256: str, access: Access) -> str | None:
    """The clip that this very file became before, where it is still there."""
    statement = (
        select(CLIP.c.id)
        .join(JOB, JOB.c.id == CLIP.c.job_id)
        .where(CLIP.c.imported == sha256, CLIP.c.owner == access.owner, CLIP.c.trashed_at.is_(None))
        .where(JOB.c.hidden.is_(False), JOB.c.nbytes > 0)
    )
    with database.read() as connection:
        found = connection.execute(statement.limit(1)).scalar()
    return None if found is None else str(found)


def made_here(database: Database, store: Store, file: Path, sha256: str, seed: int, access: Access) -> str | None:
    """The clip that was made here and whose film this very file is. One of its seed has to have as many bytes to be read."""
    statement = (
        select(CLIP.c.id, CLIP.c.number, JOB.c.outputs)
        .join(JOB, JOB.c.id == CLIP.c.job_id)
        .where(CLIP.c.imported.is_(None), CLIP.c.seed == seed, CLIP.c.owner == access.owner)
        .where(CLIP.c.trashed_at.is_(None), JOB.c.hidden.is_(False), JOB.c.nbytes > 0)
    )
    with database.read() as connection:
        found = connection.execute(statement.limit(MOST_OF_ONE_SEED)).all()
    for row in found:
        if row.number >= len(row.outputs) or (name := row.outputs[row.number].get("video")) is None:
            continue
        try:
            if store.size(name) != file.stat().st_size:
                continue
            with store.as_file(name) as stored:
                if file_hash(stored) == sha256:
                    return str(row.id)
        except NotStored:
            continue  # it was deleted meanwhile
    return None


def remember_source(database: Database, name: str, mark: str) -> None:
    """The clip's file lies in a folder too, under this mark."""
    with database.write() as connection:
        owner = select(CLIP.c.job_id).where(CLIP.c.id == name).scalar_subquery()
        made = dict(connection.execute(select(JOB.c.made).where(JOB.c.id == owner)).scalar_one())
        if mark not in (marks := _sources(made)):
            connection.execute(update(JOB).where(JOB.c.id == owner).values(made={**made, "sources": [*marks, mark]}))


@dataclass(frozen=True)
class FilesHere:
    """The files that clips of the library came from. marks: of those in folders; sizes: of all, in bytes."""

    marks: set[str]
    sizes: set[int]


def files_brought_in(database: Database) -> FilesHere:
    """The files of the clips that are in the library now."""
    statement = select(JOB.c.made).join(CLIP, CLIP.c.job_id == JOB.c.id)
    there = (CLIP.c.imported.is_not(None), CLIP.c.trashed_at.is_(None), JOB.c.hidden.is_(False))
    with database.read() as connection:
        made = connection.execute(statement.where(*there)).scalars().all()
    sizes = {one["source_bytes"] for one in made if "source_bytes" in one}
    return FilesHere({mark for one in made for mark in _sources(one)}, sizes)


def _sources(made: Mapping[str, Any]) -> list[str]:
    """`made["sources"]`; in libraries of earlier versions one of them, as `made["source"]`."""
    return list(made["sources"]) if "sources" in made else [made["source"]] if made.get("source") else []
