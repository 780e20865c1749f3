"""The answers of the API: what a job looks like to clients, in OpenAI's words and SGLang's besides."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from phonofilm.geometry import frames_for_seconds, parse_frame_rate
from phonofilm.serving.api.translate import AUTO, size_in_pixels
from phonofilm.serving.jobs.job import IN_PROGRESS, Job

SHORTEST_POLL, LONGEST_POLL = 250, 5000


class VideoError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class VideoObject(BaseModel):
    """A job. `size` and `seconds` are those of the clip that is made, or was to be."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: str = "video"
    model: str
    status: str
    progress: int
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    size: str | None = None
    seconds: str | None = None
    prompt: str | None = None
    error: VideoError | None = None
    remixed_from_video_id: str | None = None
    quality: str = "standard"
    num_outputs: int = 1
    file_path: str | None = None
    file_paths: list[str] | None = None
    url: str | None = None
    urls: Annotated[
        list[str], Field(description="Of the clips that are finished, also while others are being made.")
    ] = []
    inference_time_s: float | None = None
    peak_memory_mb: float | None = None
    revised_prompt: str | None = None
    seed: int | None = None
    seeds: list[int] = []
    priority: int = 0
    stage: str | None = None
    step: int = 0
    steps: int = 0
    warnings: list[str] = []


class VideoList(BaseModel):
    """A page of jobs."""

    object: str = "list"
    data: list[VideoObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """The answer of DELETE."""

    id: str
    object: str = "video.deleted"
    deleted: bool = True


def video_object(job: Job, base_url: str, facts: dict[str, Any] | None) -> VideoObject:
    """The job for a client. `facts`: the model's default sizes, for what is not made yet."""
    size, seconds = _sizes(job, facts)
    content = f"{base_url.rstrip('/')}/v1/videos/{job.id}/content"
    urls = [content if index == 0 else f"{content}?index={index}" for index in range(len(job.outputs))]
    # A clip that was brought in may have a seed that nobody knows.
    made = job.made.get("seeds") or []
    asked = [] if job.has_ended and made else job.request.seeds[len(made) :]
    seeds = [seed for seed in [*made, *asked] if seed is not None]
    error = None if job.error_code is None else VideoError(code=job.error_code, message=job.error_message or "")
    return VideoObject(
        id=job.id,
        model=job.model,
        status=job.status,
        progress=job.progress,
        created_at=int(job.created_at),
        completed_at=_whole(job.completed_at),
        expires_at=_whole(job.expires_at),
        size=size,
        seconds=seconds,
        prompt=job.request.prompt,
        error=error,
        remixed_from_video_id=job.remixed_from,
        num_outputs=len(job.request.seeds),
        url=urls[0] if urls else None,
        urls=urls,
        inference_time_s=job.made.get("inference_time_s"),
        peak_memory_mb=job.made.get("peak_memory_mb"),
        revised_prompt=job.made.get("prompt"),
        seed=seeds[0] if seeds else None,
        seeds=seeds,
        priority=job.priority,
        stage=job.stage_shown,
        step=job.step,
        steps=job.steps,
        warnings=[*job.request.warnings, *job.made.get("warnings", [])],
    )


def poll_after(job: Job, now: float) -> int | None:
    """Milliseconds after which asking again may show something new; None when nothing will change."""
    if job.has_ended:
        return None
    if job.status != IN_PROGRESS or not job.step or job.started_at is None:
        return 1000
    left = (now - job.started_at) / job.step * (job.steps - job.step)
    return min(LONGEST_POLL, max(SHORTEST_POLL, round(left * 100)))


def is_made(job: Job) -> bool:
    """Whether a clip of the job is there, or was, so that its sizes are known."""
    return bool(job.made.get("size"))


def _sizes(job: Job, facts: dict[str, Any] | None) -> tuple[str | None, str | None]:
    """Of the clips that are made; before there is one, or where none came to be, of those that were asked for."""
    if is_made(job):
        return job.made["size"], f"{job.made['seconds']:g}"
    options = job.request.options
    size = _size_asked(options.get("size"), facts)
    if facts is None:
        return size, f"{options['seconds']:g}" if "seconds" in options else None
    rate = parse_frame_rate(options.get("fps") or facts["fps"])
    frames = options.get("num_frames") or facts["num_frames"]
    if "seconds" in options:
        frames = frames_for_seconds(options["seconds"], rate, facts["temporal_factor"])
    return size, f"{float(frames / rate):g}"


def _size_asked(size: str | None, facts: dict[str, Any] | None) -> str | None:
    """WIDTHxHEIGHT, however it was written; None for the shape of a picture that only the worker opens."""
    if size is None:
        return None if facts is None else f"{facts['width']}x{facts['height']}"
    if size == AUTO:
        return None
    height, width = size_in_pixels(size)
    return f"{width}x{height}"


def _whole(time: float | None) -> int | None:
    return None if time is None else int(time)
