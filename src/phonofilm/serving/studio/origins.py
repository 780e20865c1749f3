"""How a clip came from another one: which way, and from which."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from phonofilm.serving.jobs.job import JobRequest
from phonofilm.serving.studio.requests import task_of

Way = Literal["retake", "continuation", "new_sound", "new_picture", "variation"]


class ClipOrigin(BaseModel):
    """What was done to which clip. clip: None where it was a file that was sent."""

    way: Way
    clip: str | None


def origin_of(request: JobRequest) -> ClipOrigin | None:
    """Where a request's clip comes from, or None for one that was made from words and pictures alone."""
    if request.variation_of is not None:
        return ClipOrigin(way="variation", clip=request.variation_of)
    task, given = task_of(request), {*request.inputs, *request.urls}
    if task == "extension":
        return ClipOrigin(way="continuation", clip=request.sources.get("continue_from"))
    if task == "edit":
        return ClipOrigin(way="retake", clip=request.sources.get("video"))
    if "video" in given:
        return ClipOrigin(way="new_sound", clip=request.sources.get("video"))
    if "audio" in given:
        return ClipOrigin(way="new_picture", clip=request.sources.get("audio"))
    return None
