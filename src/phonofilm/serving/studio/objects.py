"""What the studio's routes answer: clips, jobs and requests as the page sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from phonofilm.serving.api.objects import VideoObject, video_object
from phonofilm.serving.jobs.clip_rows import clip_id
from phonofilm.serving.jobs.job import IN_PROGRESS, Job
from phonofilm.serving.library.changes import TRASH_SECONDS
from phonofilm.serving.library.clips import LibraryClip
from phonofilm.serving.studio.origins import ClipOrigin, origin_of
from phonofilm.serving.studio.requests import GivenInput, StudioTask, fields_of, inputs_of, task_of


class StudioClip(BaseModel):
    """A clip of the library. The addresses are relative to the server."""

    id: str
    job_id: str
    index: int
    set_size: int
    model: str
    title: str
    prompt: str
    revised_prompt: str | None = Field(description="The text that it was made from, where a model had written it.")
    seed: int | None
    created_at: float
    expires_at: float | None
    trashed_at: float | None
    purge_at: float | None
    size: str | None
    width: int | None
    height: int | None
    seconds: float | None
    fps: float | None
    num_frames: int | None
    steps: int | None
    has_sound: bool | None = Field(description="None where that was not written down, in earlier versions.")
    nbytes: int = Field(description="Of all files of its job.")
    favourite: bool
    folder: str
    tags: list[str]
    imported: bool
    remixed_from: str | None
    origin: ClipOrigin | None
    video_url: str
    thumbnail_url: str
    spritesheet_url: str
    sound_url: str
    settings_url: str
    frame_url: str


class StudioJob(VideoObject):
    """A job as the queue shows it. `request` and `inputs` are what it was asked for; `place` 0 is next."""

    task: StudioTask
    place: int | None
    eta_seconds: float | None
    preview_url: str | None
    clip_ids: list[str]
    origin: ClipOrigin | None
    imported: bool
    request: dict[str, Any]
    inputs: list[GivenInput]


class StudioJobs(BaseModel):
    """All that runs and waits, and what ended in the last day."""

    running: list[StudioJob]
    waiting: list[StudioJob]
    ended: list[StudioJob]


class StudioWorker(BaseModel):
    """A worker that lives. memory: bytes. engine_away: another engine makes its clips, whose server does not answer."""

    state: Literal["starting", "ready", "busy", "engine_away"]
    models: list[str]
    memory: float


def studio_clip(clip: LibraryClip) -> StudioClip:
    """The clip for the page."""
    job, made = clip.job, clip.job.made
    here, content = f"/v1/studio/clips/{clip.id}", f"/v1/videos/{job.id}/content?index={clip.number}"
    width, height = (int(side) for side in made["size"].split("x")) if made.get("size") else (None, None)
    return StudioClip(
        id=clip.id,
        job_id=job.id,
        index=clip.number,
        set_size=len(job.request.seeds),
        model=job.model,
        title=clip.title,
        prompt=job.request.prompt,
        revised_prompt=made.get("prompt"),
        seed=clip.seed,
        created_at=clip.created_at,
        expires_at=job.expires_at,
        trashed_at=clip.trashed_at,
        purge_at=None if clip.trashed_at is None else clip.trashed_at + TRASH_SECONDS,
        size=made.get("size"),
        width=width,
        height=height,
        seconds=made.get("seconds"),
        fps=made.get("fps"),
        num_frames=made.get("num_frames"),
        steps=made.get("steps"),
        has_sound=made.get("has_sound"),
        nbytes=job.nbytes,
        favourite=clip.favourite,
        folder=clip.folder,
        tags=list(clip.tags),
        imported=clip.imported is not None,
        remixed_from=job.remixed_from,
        origin=origin_of(job.request),
        video_url=content,
        thumbnail_url=f"{content}&variant=thumbnail",
        spritesheet_url=f"{content}&variant=spritesheet",
        sound_url=f"{here}/sound",
        settings_url=f"{here}/settings",
        frame_url=f"{here}/frame",
    )


def studio_job(job: Job, facts: Mapping[str, Any] | None, now: float, place: int | None) -> StudioJob:
    """The job for the page. `now`: seconds since 1970; `place`: in the queue."""
    video = video_object(job, "", None if facts is None else dict(facts))
    preview = f"/v1/studio/jobs/{job.id}/preview?step={job.step}"
    return StudioJob(
        **video.model_dump(),
        task=task_of(job.request),
        place=place,
        eta_seconds=seconds_left(job, now),
        preview_url=None if job.preview_shown is None else preview,
        clip_ids=[clip_id(job.id, number) for number in range(len(job.outputs))],
        origin=origin_of(job.request),
        imported="missing" in job.made,
        request=fields_of(job.request, job.model),
        inputs=inputs_of(job),
    )


def seconds_left(job: Job, now: float) -> float | None:
    """How long a running job will take still, by its pace so far; None where that cannot be said."""
    if job.status != IN_PROGRESS or not job.step or job.started_at is None:
        return None
    return max(0.0, (now - job.started_at) / job.step * (job.steps - job.step))
