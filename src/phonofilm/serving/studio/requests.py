"""A job's request in the words of the videos API, so that it can be shown, changed and sent once more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel

from phonofilm.serving.api.translate import NAMES
from phonofilm.serving.client_requests import FILES
from phonofilm.serving.jobs.job import KEYFRAME, Job, JobRequest, is_keyframe
from phonofilm.serving.security.sniffing import IMAGE
from phonofilm.serving.worker.inputs_of import KINDS

StudioTask = Literal["create", "edit", "extension"]
TASK_URLS: dict[StudioTask, str] = {
    "create": "/v1/videos",
    "edit": "/v1/videos/edits",
    "extension": "/v1/videos/extensions",
}


class GivenInput(BaseModel):
    """A file that a clip is made from: fetch `url` and send it as `field`.

    at: seconds, of a key frame. clip: the name of the library's clip that it is.
    """

    field: str
    kind: Literal["image", "video", "audio"]
    url: str
    at: float | None = None
    clip: str | None = None


def as_made(job: Job) -> JobRequest:
    """The request that makes the job's clips again: with the text that they were made from, where a model had written it."""
    written = job.made.get("prompt")
    if not job.request.enhance_prompt or not written:
        return job.request
    return replace(job.request, options={**job.request.options, "prompt": written}, enhance_prompt=False)


def task_of(request: JobRequest) -> StudioTask:
    """Which route the request belongs to."""
    if "retake" in request.options:
        return "edit"
    return "extension" if {"continue_from"} & {*request.inputs, *request.urls} else "create"


def fields_of(request: JobRequest, model: str, seed: int | None = None) -> dict[str, Any]:
    """The request's fields without its files; with one `seed` for a clip of several."""
    names = {option: field for field, option in NAMES.items()}
    fields = {names.get(option, option): value for option, value in request.options.items()}
    seeds = [one for one in request.seeds if one is not None]
    fields["model"] = model
    if request.loras is not None:
        fields["loras"] = request.loras
    if seed is not None:
        fields["seed"] = seed
    elif seeds:
        fields["seed"] = seeds[0] if len(seeds) == 1 else seeds
    if seed is None and len(request.seeds) > 1:
        fields["n"] = len(request.seeds)
    if request.enhance_prompt:
        fields["enhance_prompt"] = True
    if request.draw_first_frame:
        fields["draw_first_frame"] = True
    return fields


def form_field(option: str) -> str | None:
    """The field of a form that fills an option with a file: a keyframe's is keyframes[SECONDS]."""
    return f"keyframes[{option.removeprefix(KEYFRAME)}]" if is_keyframe(option) else FILES.get(option)


def inputs_of(job: Job) -> list[GivenInput]:
    """The stored files that the job is made from."""
    found = []
    for option in job.request.inputs:
        field = form_field(option)
        if field is not None:
            at = float(option.removeprefix(KEYFRAME)) if is_keyframe(option) else None
            url = f"/v1/studio/jobs/{job.id}/inputs/{quote(field)}"
            kind, clip = IMAGE if at is not None else KINDS[option], job.request.sources.get(option)
            found.append(GivenInput(field=field, kind=kind, url=url, at=at, clip=clip))
    return found
