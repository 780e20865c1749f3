"""Routes of the library: looking through clips, sorting them, the trash, and variations of one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.changing import changed_request
from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.fields import NO_UNDERSCORES, ChangeFields
from phonofilm.serving.api.media import check_not_in_trash
from phonofilm.serving.api.queue_again import varied
from phonofilm.serving.api.services import MayRead, MayWrite, Services, ServicesOf
from phonofilm.serving.library.changes import ClipChange, change_clips, purge_clips, trash_clips
from phonofilm.serving.library.clips import LibraryClip, Sort, Wanted, clip_page, count_shelves, find_clips
from phonofilm.serving.security.access import Access
from phonofilm.serving.studio.objects import StudioClip, StudioJob, studio_clip, studio_job
from phonofilm.serving.studio.requests import as_made
from phonofilm.untrusted import shown

router = APIRouter(tags=["studio"], responses=ERRORS)
MOST_IDS, MOST_TAGS = 500, 50
Ids = Annotated[list[Annotated[str, Field(max_length=80)]], Field(min_length=1, max_length=MOST_IDS)]
Tag = Annotated[str, Field(min_length=1, max_length=50)]
Folder = Annotated[str, Field(max_length=100)]


class ClipPageAnswer(BaseModel):
    """Some clips, and the cursor of those that follow."""

    data: list[StudioClip]
    next_cursor: str | None
    total: int


class ClipsAnswer(BaseModel):
    """The clips that were named, as they are now."""

    data: list[StudioClip]


class JobsAnswer(BaseModel):
    """Jobs that were put into the queue."""

    data: list[StudioJob]


class Shelf(BaseModel):
    """A tag, folder or model, and how many clips have it."""

    name: str
    count: int


class ShelvesAnswer(BaseModel):
    """What the library holds. bytes: of all files of this key."""

    total: int
    favourites: int
    trashed: int
    bytes: int
    tags: list[Shelf]
    folders: list[Shelf]
    models: list[Shelf]


class ClipFields(BaseModel):
    """PATCH of one clip; tags replaces them all."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str | None, Field(max_length=200)] = None
    favourite: Annotated[bool, Field(strict=True)] | None = None
    folder: Folder | None = None
    tags: Annotated[list[Tag] | None, Field(max_length=MOST_TAGS)] = None


class ManyClipsFields(BaseModel):
    """The same change for many clips."""

    model_config = ConfigDict(extra="forbid")

    ids: Ids
    favourite: Annotated[bool, Field(strict=True)] | None = None
    folder: Folder | None = None
    add_tags: Annotated[list[Tag], Field(max_length=MOST_TAGS)] = []
    remove_tags: Annotated[list[Tag], Field(max_length=MOST_TAGS)] = []


class IdsFields(BaseModel):
    """Clips by name."""

    model_config = ConfigDict(extra="forbid")

    ids: Ids


class PurgeFields(BaseModel):
    """Clips of the trash by name, or everything in it."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[str], Field(max_length=MOST_IDS)] = []
    everything: Annotated[bool, Field(strict=True)] = False


class Purged(BaseModel):
    """How many clips are gone for good."""

    purged: int


class VariationFields(BaseModel):
    """The same clip with other seeds: `count` of them by chance, or those in `seeds`; with `changes` besides."""

    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, le=8, strict=True)] = 4
    seeds: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**62, strict=True)]] | None, Field(min_length=1, max_length=8)
    ] = None
    changes: ChangeFields | None = None


@router.get("/v1/studio/clips", operation_id="listClips")
def get_clips(
    services: ServicesOf,
    access: MayRead,
    q: Annotated[str, Query(max_length=200, description="Words that must all occur.")] = "",
    tag: Annotated[list[str] | None, Query(max_length=20, description="May be repeated: all must be there.")] = None,
    folder: Annotated[str | None, Query(max_length=100)] = None,
    favourite: bool | None = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
    trashed: bool = False,
    made_from: Annotated[str | None, Query(max_length=80, description="A clip that others were made from.")] = None,
    sort: Sort = "newest",
    limit: Annotated[int, Query(ge=1, le=200), NO_UNDERSCORES] = 60,
    cursor: Annotated[str | None, Query(max_length=80)] = None,
) -> ClipPageAnswer:
    """The clips of the library, or of its trash, a page at a time."""
    wanted = Wanted(q.replace("\0", " ").split()[:20], tag or (), folder, favourite, model, trashed, sort, made_from)
    found = clip_page(services.database, access, wanted, limit=limit, cursor=cursor)
    if found is None:
        raise invalid("cursor: there is no such clip any more; begin again", "cursor")
    data = [studio_clip(clip) for clip in found.clips]
    return ClipPageAnswer(data=data, next_cursor=found.next_cursor, total=found.total)


@router.get("/v1/studio/shelves", operation_id="getShelves")
def get_shelves(services: ServicesOf, access: MayRead) -> ShelvesAnswer:
    """How many clips there are, and under which tags, folders and models."""
    found = count_shelves(services.database, access)
    tags, folders, models = (
        [Shelf(name=name, count=count) for name, count in named] for named in (found.tags, found.folders, found.models)
    )
    return ShelvesAnswer(
        total=found.total, favourites=found.favourites, trashed=found.trashed, bytes=found.nbytes,
        tags=tags, folders=folders, models=models,
    )  # fmt: skip


@router.get("/v1/studio/clips/{clip_id}", operation_id="getClip")
def get_clip(clip_id: str, services: ServicesOf, access: MayRead) -> StudioClip:
    """One clip."""
    return studio_clip(clip_or_404(services, access, clip_id))


@router.patch("/v1/studio/clips/{clip_id}", operation_id="changeClip")
def change_clip(clip_id: str, fields: ClipFields, services: ServicesOf, access: MayWrite) -> StudioClip:
    """Change a clip's title, tags, folder, or whether it is a favourite."""
    clip = clip_or_404(services, access, clip_id)
    tags = None if fields.tags is None else _plain(fields.tags)
    folder = None if fields.folder is None else fields.folder.strip()
    change_clips(services.database, [clip], ClipChange(fields.title, fields.favourite, folder, tags))
    return get_clip(clip_id, services, access)


@router.post("/v1/studio/clips/change", operation_id="changeClips")
def change_many(fields: ManyClipsFields, services: ServicesOf, access: MayWrite) -> ClipsAnswer:
    """The same change for many clips."""
    folder = None if fields.folder is None else fields.folder.strip()
    change = ClipChange(
        favourite=fields.favourite, folder=folder, added=_plain(fields.add_tags), removed=fields.remove_tags
    )
    change_clips(services.database, _clips_or_404(services, access, fields.ids), change)
    return _answer(services, access, fields.ids)


@router.post("/v1/studio/clips/trash", operation_id="trashClips")
def trash(fields: IdsFields, services: ServicesOf, access: MayWrite) -> ClipsAnswer:
    """Put clips into the trash, where they stay for seven days."""
    trash_clips(services.database, _clips_or_404(services, access, fields.ids))
    return _answer(services, access, fields.ids)


@router.post("/v1/studio/clips/restore", operation_id="restoreClips")
def take_back(fields: IdsFields, services: ServicesOf, access: MayWrite) -> ClipsAnswer:
    """Take clips out of the trash."""
    trash_clips(services.database, _clips_or_404(services, access, fields.ids), back=True)
    return _answer(services, access, fields.ids)


@router.post("/v1/studio/clips/purge", operation_id="purgeClips")
def purge(fields: PurgeFields, services: ServicesOf, access: MayWrite) -> Purged:
    """Remove clips that are in the trash for good."""
    ids = [clip.id for clip in find_clips(services.database, access, fields.ids)]
    purged = purge_clips(services.database, services.store, ids) if ids else 0
    wanted = Wanted(trashed=True)
    while (
        fields.everything
        and (left := clip_page(services.database, access, wanted, limit=MOST_IDS, cursor=None))
        and left.clips
    ):
        purged += purge_clips(services.database, services.store, [clip.id for clip in left.clips])
    return Purged(purged=purged)


@router.post("/v1/studio/clips/{clip_id}/variations", operation_id="makeVariations")
def make_variations(clip_id: str, fields: VariationFields, services: ServicesOf, access: MayWrite) -> JobsAnswer:
    """Make the clip again with other seeds: the same settings and inputs, one job each."""
    clip = clip_or_404(services, access, clip_id)
    check_not_in_trash([clip], "clip_id")
    if missing := clip.job.made.get("missing"):
        raise ApiError(
            409, f"this clip cannot be made again here, because this is missing: {missing[0]}", "input_missing"
        )
    seeds = fields.seeds or [secrets.randbelow(2**31) for _ in range(fields.count)]
    job = replace(clip.job, request=as_made(clip.job))
    request = job.request if fields.changes is None else changed_request(services, job, fields.changes)
    jobs = varied(services, access, job, replace(request, variation_of=clip.id), seeds)
    return JobsAnswer(data=[studio_job(job, services.facts(job.model), time.time(), None) for job in jobs])


def clip_or_404(services: Services, access: Access, clip_id: str) -> LibraryClip:
    """The clip. Raises ApiError for one that is not there, or not for this key."""
    return _clips_or_404(services, access, [clip_id])[0]


def _clips_or_404(services: Services, access: Access, ids: Sequence[str]) -> list[LibraryClip]:
    clips = find_clips(services.database, access, ids)
    if missing := set(ids) - {clip.id for clip in clips}:
        raise ApiError(404, f"no clip {shown(min(missing))}", "clip_not_found", param="clip_id")
    return clips


def _answer(services: Services, access: Access, ids: Sequence[str]) -> ClipsAnswer:
    return ClipsAnswer(data=[studio_clip(clip) for clip in find_clips(services.database, access, ids)])


def _plain(tags: Sequence[str]) -> list[str]:
    """Tags as they are kept: without spaces around them."""
    return [tag for tag in (" ".join(one.split()) for one in tags) if tag]
