"""Clips as the library has them, and looking through them. Changing them is in changes.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, cast, func, or_, select

from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.tables import CLIP, CLIP_TAG, JOB
from phonofilm.serving.jobs.clip_rows import job_and_number
from phonofilm.serving.jobs.job import Job, job_of
from phonofilm.serving.security.access import Access

Sort = Literal["newest", "oldest", "longest"]


@dataclass(frozen=True)
class LibraryClip:
    """A clip with the job that made it. `imported`: the hash of the file that it was brought in from."""

    id: str
    job: Job
    number: int
    title: str
    seed: int | None
    favourite: bool
    folder: str
    tags: tuple[str, ...]
    imported: str | None
    created_at: float
    trashed_at: float | None

    def file(self, variant: str) -> str | None:
        """The stored name of one of its files."""
        return self.job.outputs[self.number].get(variant)


@dataclass(frozen=True)
class Wanted:
    """Which clips to list. words: all must occur; tags: all must be there; made_from: the name of the clip that they are
    retakes, continuations, variations and so on of; None leaves a question open."""

    words: Sequence[str] = ()
    tags: Sequence[str] = ()
    folder: str | None = None
    favourite: bool | None = None
    model: str | None = None
    trashed: bool = False
    sort: Sort = "newest"
    made_from: str | None = None


@dataclass(frozen=True)
class ClipPage:
    """Some clips, the name to go on from (None at the end), and how many there are in all."""

    clips: list[LibraryClip]
    next_cursor: str | None
    total: int


def clip_page(database: Database, access: Access, wanted: Wanted, *, limit: int, cursor: str | None) -> ClipPage | None:
    """Up to `limit` clips after the one named `cursor`; None when there is no such clip."""
    where = _where(access, wanted)
    value, order = _order(wanted.sort)
    with database.read() as connection:
        total = connection.execute(select(func.count()).select_from(_tables()).where(*where)).scalar() or 0
        if cursor is not None:
            last = connection.execute(select(value).where(CLIP.c.id == cursor, *_owned(access))).first()
            if last is None:
                return None
            beyond = value > last[0] if wanted.sort == "oldest" else value < last[0]
            same = CLIP.c.id > cursor if wanted.sort == "oldest" else CLIP.c.id < cursor
            where.append(or_(beyond, and_(value == last[0], same)))
        clips = _read(connection, _rows().where(*where).order_by(*order).limit(limit + 1))
    more = len(clips) > limit
    return ClipPage(clips[:limit], clips[limit - 1].id if more else None, total)


def find_clips(database: Database, access: Access, ids: Sequence[str]) -> list[LibraryClip]:
    """Those of the clips that this key may see, in the order in which they were named; also from the trash."""
    known = [one for one in dict.fromkeys(ids) if job_and_number(one) is not None]
    with database.read() as connection:
        found = {clip.id: clip for clip in _read(connection, _rows().where(CLIP.c.id.in_(known), *_there(access)))}
    return [found[one] for one in known if one in found]


def length_of(database: Database, name: str | None) -> float | None:
    """Seconds of the clip of this name; None where there is none, or no length of it is known. Whose it is was asked before."""
    if name is None:
        return None
    with database.read() as connection:
        return connection.execute(select(CLIP.c.seconds).where(CLIP.c.id == name)).scalar() or None


@dataclass(frozen=True)
class Shelves:
    """How many clips there are, and under which names."""

    total: int
    favourites: int
    trashed: int
    nbytes: int
    tags: list[tuple[str, int]]
    folders: list[tuple[str, int]]
    models: list[tuple[str, int]]


def count_shelves(database: Database, access: Access) -> Shelves:
    """What the library holds for this key."""
    there, kept = _there(access), CLIP.c.trashed_at.is_(None)

    def counted(connection: Connection, name: ColumnElement[Any], tables: Any) -> list[tuple[str, int]]:
        statement = select(name, func.count()).select_from(tables).where(*there, kept, name != "")
        return [(str(one), int(count)) for one, count in connection.execute(statement.group_by(name).order_by(name))]

    with database.read() as connection:
        total, favourites, trashed = (
            int(connection.execute(select(func.count()).select_from(_tables()).where(*there, one)).scalar() or 0)
            for one in (kept, and_(kept, CLIP.c.favourite), CLIP.c.trashed_at.is_not(None))
        )
        sizes = select(func.coalesce(func.sum(JOB.c.nbytes), 0)).where(JOB.c.hidden.is_(False))
        nbytes = connection.execute(sizes if access.sees_all else sizes.where(JOB.c.owner == access.owner)).scalar()
        with_tags = _tables().join(CLIP_TAG, CLIP_TAG.c.clip_id == CLIP.c.id)
        return Shelves(
            total,
            favourites,
            trashed,
            int(nbytes or 0),
            counted(connection, CLIP_TAG.c.tag, with_tags),
            counted(connection, CLIP.c.folder, _tables()),
            counted(connection, CLIP.c.model, _tables()),
        )


def revision(database: Database, access: Access) -> tuple[int, float]:
    """Changes whenever a clip of this key comes, goes or is changed."""
    statement = select(func.count(), func.coalesce(func.max(CLIP.c.changed_at), 0.0)).select_from(_tables())
    with database.read() as connection:
        count, newest = connection.execute(statement.where(*_there(access))).one()
    return int(count), float(newest)


def _tables() -> Any:
    return CLIP.join(JOB, JOB.c.id == CLIP.c.job_id)


def _rows() -> Select[Any]:
    columns = [column.label(f"of_job_{column.name}") for column in JOB.c]
    return select(*CLIP.c, *columns).select_from(_tables())


def _owned(access: Access) -> list[ColumnElement[bool]]:
    return [] if access.sees_all else [CLIP.c.owner == access.owner]


def _there(access: Access) -> list[ColumnElement[bool]]:
    """Not deleted, and not expired. A job that goes on, was cancelled or failed has the clips that are finished."""
    return [JOB.c.hidden.is_(False), JOB.c.nbytes > 0, *_owned(access)]


def _where(access: Access, wanted: Wanted) -> list[ColumnElement[bool]]:
    where = _there(access)
    where.append(CLIP.c.trashed_at.is_not(None) if wanted.trashed else CLIP.c.trashed_at.is_(None))
    # A tag is shown as #tag, and may be searched for like that.
    words = [word.lstrip("#") or word for word in wanted.words]
    where += [CLIP.c.search.contains(word.lower(), autoescape=True) for word in words]
    for tag in wanted.tags:
        where.append(select(CLIP_TAG.c.tag).where(CLIP_TAG.c.clip_id == CLIP.c.id, CLIP_TAG.c.tag == tag).exists())
    if wanted.folder is not None:
        where.append(CLIP.c.folder == wanted.folder)
    if wanted.favourite is not None:
        where.append(CLIP.c.favourite.is_(wanted.favourite))
    if wanted.model is not None:
        where.append(CLIP.c.model == wanted.model)
    if wanted.made_from is not None:
        # A clip's name occurs in a request only as one that it is made from; the quotes tell _1 from _10.
        where.append(cast(JOB.c.request, Text).contains(f'"{wanted.made_from}"', autoescape=True))
    return where


def _order(sort: Sort) -> tuple[ColumnElement[float], tuple[ColumnElement[Any], ColumnElement[Any]]]:
    value = CLIP.c.seconds if sort == "longest" else CLIP.c.created_at
    return (value, (value.asc(), CLIP.c.id.asc())) if sort == "oldest" else (value, (value.desc(), CLIP.c.id.desc()))


def _read(connection: Connection, statement: Select[Any]) -> list[LibraryClip]:
    rows = connection.execute(statement).mappings().all()
    tags: dict[str, list[str]] = defaultdict(list)
    ids = [row["id"] for row in rows]
    named = select(CLIP_TAG.c.clip_id, CLIP_TAG.c.tag).where(CLIP_TAG.c.clip_id.in_(ids)).order_by(CLIP_TAG.c.tag)
    for clip, tag in connection.execute(named):
        tags[clip].append(tag)
    return [
        LibraryClip(
            id=row["id"],
            job=job_of({column.name: row[f"of_job_{column.name}"] for column in JOB.c}),
            number=row["number"],
            title=row["title"],
            seed=row["seed"],
            favourite=row["favourite"],
            folder=row["folder"],
            tags=tuple(tags[row["id"]]),
            imported=row["imported"],
            created_at=row["created_at"],
            trashed_at=row["trashed_at"],
        )
        for row in rows
    ]
