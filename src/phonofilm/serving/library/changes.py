"""Changing clips of the library: names, tags, folders, favourites; the trash, and what leaves it for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import CLIP, CLIP_TAG, JOB
from phonofilm.serving.jobs.clip_rows import search_text
from phonofilm.serving.jobs.job import ENDED
from phonofilm.serving.library.clips import LibraryClip
from phonofilm.serving.store.interface import OUTPUTS, Store

PURGED_AT_ONCE = 500
# How long a clip lies in the trash.
TRASH_SECONDS = 7 * 86_400.0


@dataclass(frozen=True)
class ClipChange:
    """What is to be different; None leaves it. tags replaces all of them; added and removed change some."""

    title: str | None = None
    favourite: bool | None = None
    folder: str | None = None
    tags: Sequence[str] | None = None
    added: Sequence[str] = ()
    removed: Sequence[str] = ()


def change_clips(database: Database, clips: Sequence[LibraryClip], change: ClipChange) -> None:
    """Change all of the clips, or none."""
    values = {"title": change.title, "favourite": change.favourite, "folder": change.folder}
    given = {name: value for name, value in values.items() if value is not None}
    with database.write() as connection:
        for clip in clips:
            before = set(clip.tags) if change.tags is None else set(change.tags)
            tags = sorted((before | set(change.added)) - set(change.removed))
            if tags != list(clip.tags):
                connection.execute(delete(CLIP_TAG).where(CLIP_TAG.c.clip_id == clip.id))
                rows = [{"clip_id": clip.id, "tag": tag} for tag in tags]
                if rows:
                    connection.execute(insert(CLIP_TAG), rows)
            title = clip.title if change.title is None else change.title
            searched = search_text(clip.job.request.prompt, title, clip.job.model, clip.seed, tags)
            connection.execute(
                update(CLIP).where(CLIP.c.id == clip.id).values(search=searched, changed_at=DatabaseNow(), **given)
            )


def trash_clips(database: Database, clips: Sequence[LibraryClip], *, back: bool = False) -> None:
    """Put the clips into the trash, or (`back`) take them out of it."""
    ids = [clip.id for clip in clips]
    where = CLIP.c.trashed_at.is_not(None) if back else CLIP.c.trashed_at.is_(None)
    values: dict[str, Any] = {"trashed_at": None if back else DatabaseNow(), "changed_at": DatabaseNow()}
    with database.write() as connection:
        connection.execute(update(CLIP).where(CLIP.c.id.in_(ids), where).values(**values))


def purge_clips(database: Database, store: Store, ids: Sequence[str]) -> int:
    """Remove clips that are in the trash, for good; the number removed. A job that has ended and has no clips goes as well."""
    with database.write() as connection:
        statement = delete(CLIP).where(CLIP.c.id.in_(ids), CLIP.c.trashed_at.is_not(None))
        gone = connection.execute(statement.returning(CLIP.c.id, CLIP.c.job_id, CLIP.c.number)).all()
        connection.execute(delete(CLIP_TAG).where(CLIP_TAG.c.clip_id.in_([row.id for row in gone])))
        left = select(CLIP.c.id).where(CLIP.c.job_id == JOB.c.id).exists()
        jobs = {row.job_id for row in gone}
        emptied = update(JOB).where(JOB.c.id.in_(jobs), JOB.c.status.in_(ENDED), ~left)
        connection.execute(emptied.values(hidden=True))
        published = connection.execute(select(JOB.c.id, JOB.c.outputs).where(JOB.c.id.in_(jobs))).all()
    outputs = {row.id: row.outputs for row in published}
    for row in gone:
        if row.number < len(outputs.get(row.job_id, [])):
            _remove_files(database, store, row.job_id, outputs[row.job_id][row.number])
    return len(gone)


def purge_old(database: Database, store: Store, seconds: float) -> int:
    """Empty the trash of what has lain in it for so long."""
    old = CLIP.c.trashed_at < DatabaseNow() - seconds
    with database.read() as connection:
        ids = connection.execute(select(CLIP.c.id).where(old).limit(PURGED_AT_ONCE)).scalars().all()
    return purge_clips(database, store, ids) if ids else 0


def forget_clips(connection: Connection, job_ids: Sequence[str]) -> None:
    """Remove the rows of jobs whose files are gone."""
    ids = select(CLIP.c.id).where(CLIP.c.job_id.in_(job_ids))
    connection.execute(delete(CLIP_TAG).where(CLIP_TAG.c.clip_id.in_(ids)))
    connection.execute(delete(CLIP).where(CLIP.c.job_id.in_(job_ids)))


def _remove_files(database: Database, store: Store, job_id: str, names: dict[str, str]) -> None:
    """Remove a clip's files, and what was measured of it, which is named as it is."""
    stems = tuple(f"{name.rpartition('-')[0]}-" for name in names.values())
    removed = 0
    for name in store.files(OUTPUTS, job_id):
        if name.startswith(stems):
            removed += store.size(name) if name in names.values() else 0
            store.delete(name)
    with database.write() as connection:
        kept = update(JOB).where(JOB.c.id == job_id, JOB.c.nbytes > removed)
        connection.execute(kept.values(nbytes=JOB.c.nbytes - removed))
