"""Routes of what can be taken out of a clip: a frame, a strip of frames, the sound, and the settings that make it again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from phonofilm.errors import MediaError
from phonofilm.lora.strength import NO_LORA
from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.fields import NO_UNDERSCORES
from phonofilm.serving.api.services import MayRead, Services, ServicesOf
from phonofilm.serving.jobs.job import JobRequest
from phonofilm.serving.library.clips import LibraryClip
from phonofilm.serving.studio.clips import clip_or_404
from phonofilm.serving.studio.media_work import film_strip, frame_picture, recorded_settings, wav_sound
from phonofilm.serving.studio.requests import TASK_URLS, GivenInput, StudioTask, as_made, fields_of, inputs_of, task_of

router = APIRouter(tags=["studio"], responses=ERRORS)
# A clip's files never change, but the clip may go: a browser may keep them if it asks each time.
CACHED = {"Cache-Control": "private, max-age=3600"}


class ClipSettings(BaseModel):
    """The request that makes a clip again. missing: what cannot be had again, as sentences; recorded: what the file says."""

    task: StudioTask
    url: str
    request: dict[str, Any]
    inputs: list[GivenInput]
    missing: list[str]
    recorded: dict[str, Any]


def _picture(kind: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "The picture.", "content": {kind: {}}}}


@router.get(
    "/v1/studio/clips/{clip_id}/frame",
    operation_id="getFrame",
    response_class=Response,
    responses=_picture("image/png"),
)
def get_frame(
    clip_id: str,
    services: ServicesOf,
    access: MayRead,
    at: Annotated[float, Query(ge=0, le=36_000, allow_inf_nan=False, description="Seconds."), NO_UNDERSCORES] = 0.0,
) -> Response:
    """The frame that is shown at a moment, at full size: to look at, or as the first frame of another clip."""
    clip = clip_or_404(services, access, clip_id)
    made = clip.job.made
    fps, frames = float(made.get("fps") or 24.0), int(made.get("num_frames") or 0)
    if frames and at > frames / fps:
        raise invalid(f"at: the clip is {frames / fps:.3f} s long", "at")
    last = (frames - 1) / fps if frames else at
    found = services.media.run(frame_picture, services.worker.store, file_of(clip), min(at, last), fps)
    headers = {**CACHED, "X-Frame-Index": str(found.index), "X-Frame-Seconds": f"{found.seconds:.6f}"}
    return Response(found.content, headers=headers, media_type="image/png")


@router.get(
    "/v1/studio/clips/{clip_id}/frames",
    operation_id="getFilmstrip",
    response_class=Response,
    responses=_picture("image/jpeg"),
)
def get_film_strip(
    clip_id: str,
    services: ServicesOf,
    access: MayRead,
    count: Annotated[int, Query(ge=1, le=200), NO_UNDERSCORES] = 24,
    height: Annotated[int, Query(ge=16, le=256), NO_UNDERSCORES] = 72,
) -> Response:
    """Evenly spaced frames side by side."""
    clip = clip_or_404(services, access, clip_id)
    found = services.media.run(film_strip, services.worker.store, file_of(clip), count, height)
    headers = {**CACHED, "X-Frame-Width": str(found.width), "X-Frame-Count": str(found.count)}
    return Response(found.content, headers=headers, media_type="image/jpeg")


@router.get(
    "/v1/studio/clips/{clip_id}/sound",
    operation_id="getSound",
    response_class=Response,
    responses={200: {"description": "The sound.", "content": {"audio/wav": {}}}},
)
def get_sound(clip_id: str, services: ServicesOf, access: MayRead) -> Response:
    """The clip's sound as a wav file of 16 bits (PCM), which every program reads."""
    clip = clip_or_404(services, access, clip_id)
    try:
        content = services.media.run(wav_sound, services.worker.store, file_of(clip))
    except MediaError:
        raise ApiError(404, f"{clip.id} has no sound", "no_sound", param="clip_id") from None
    headers = {**CACHED, "Content-Disposition": f'attachment; filename="{clip.id}.wav"'}
    return Response(content, headers=headers, media_type="audio/wav")


@router.get("/v1/studio/clips/{clip_id}/settings", operation_id="getClipSettings")
def get_settings(clip_id: str, services: ServicesOf, access: MayRead) -> ClipSettings:
    """What makes the clip again, as a request and the files that go with it."""
    clip = clip_or_404(services, access, clip_id)
    request, task = as_made(clip.job), task_of(clip.job.request)
    missing = list(clip.job.made.get("missing", []))
    if clip.job.model not in services.worker.models:
        missing.append(f"the model {clip.job.model} is not served here")
    missing += missing_loras(services, request)
    try:
        recorded = services.media.run(recorded_settings, services.worker.store, file_of(clip))
    except MediaError:
        recorded = {}
    return ClipSettings(
        task=task,
        url=TASK_URLS[task],
        request=fields_of(request, clip.job.model, clip.seed),
        inputs=inputs_of(clip.job),
        missing=missing,
        recorded=recorded,
    )


def missing_loras(services: Services, request: JobRequest) -> list[str]:
    """What a clip lacks to be made again, as far as that are LoRAs."""
    known = {NO_LORA, *services.worker.loras}
    return [
        f"the LoRA {lora} is not offered here" for lora in request.loras or [] if lora.partition(":")[0] not in known
    ]


def file_of(clip: LibraryClip) -> str:
    """The stored name of the clip itself."""
    name = clip.file("video")
    if name is None:
        raise ApiError(404, f"the file of {clip.id} is gone", "video_expired", param="clip_id")
    return name


def derived_name(services: Services, clip: LibraryClip, suffix: str) -> str:
    """Where what is computed from a clip is kept: beside it, so that it goes with it."""
    return file_of(clip).rpartition("-")[0] + suffix
