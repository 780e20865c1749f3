"""Routes of the queue as the page shows it: what runs, waits and has ended, a job once more, and the files it is made from."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.content import preview_of
from phonofilm.serving.api.errors import ApiError, not_found
from phonofilm.serving.api.queue_again import repeated
from phonofilm.serving.api.services import MayRead, MayWrite, Services, ServicesOf
from phonofilm.serving.jobs.job import CANCELLED, FAILED, IN_PROGRESS, QUEUED, Job
from phonofilm.serving.jobs.job_queue import dismiss_job, find, unsettled, waiting
from phonofilm.serving.security.access import Access
from phonofilm.serving.studio.objects import StudioJob, StudioJobs, studio_job
from phonofilm.serving.studio.requests import as_made, form_field

router = APIRouter(tags=["studio"], responses=ERRORS)
RECENT_SECONDS = 86_400.0
MOST_ENDED = 50
INPUT_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "bmp": "image/bmp",
    "tif": "image/tiff", "mp4": "video/mp4", "mkv": "video/x-matroska", "avi": "video/x-msvideo", "ts": "video/mp2t",
    "flv": "video/x-flv", "mpg": "video/mpeg", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg",
    "wav": "audio/wav", "aiff": "audio/aiff", "caf": "audio/x-caf", "m4a": "audio/mp4",
}  # fmt: skip


@router.get("/v1/studio/jobs", operation_id="listStudioJobs")
def list_jobs(services: ServicesOf, access: MayRead) -> StudioJobs:
    """What runs, what waits (the next one first), and what ended in the last day."""
    return all_jobs(services, access)


@router.post("/v1/studio/jobs/{video_id}/retry", operation_id="retryJob")
def retry(video_id: str, services: ServicesOf, access: MayWrite) -> StudioJob:
    """A job that failed or was cancelled, once more: the same settings, inputs and seeds, for the clips that it lacks."""
    job = find(services.database, video_id, access)
    if job is None:
        raise not_found(video_id)
    if job.status not in (FAILED, CANCELLED):
        raise ApiError(
            409, f"{job.id} is {job.status}; only one that failed or was cancelled is made again", "not_ended"
        )
    request = replace(as_made(job), seeds=job.request.seeds[len(job.outputs) :] or job.request.seeds)
    return described_job(services, repeated(services, access, job, request), None)


@router.post("/v1/studio/jobs/{video_id}/dismiss", operation_id="dismissJob")
def dismiss(video_id: str, services: ServicesOf, access: MayWrite) -> StudioJob:
    """Take a job that has ended off the queue's list. Its clips stay in the library; the answer is the job as it was."""
    job = find(services.database, video_id, access)
    if job is None:
        raise not_found(video_id)
    if not job.has_ended:
        raise ApiError(409, f"{job.id} is {job.status}; cancel it first", "not_ended")
    dismiss_job(services.database, job)
    return described_job(services, job, None)


@router.get(
    "/v1/studio/jobs/{video_id}/preview",
    operation_id="getJobPreview",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": {"image/webp": {}}},
        204: {"description": "There is none, or none any more."},
    },
)
def get_preview(video_id: str, services: ServicesOf, access: MayRead) -> Response:
    """What a clip that is being made begins to look like. That the job has ended meanwhile is no error."""
    job = find(services.database, video_id, access)
    picture = None if job is None else preview_of(services, job)
    return Response(status_code=204) if picture is None else Response(picture, media_type="image/webp")


@router.get(
    "/v1/studio/jobs/{video_id}/inputs/{field}",
    operation_id="getJobInput",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"application/octet-stream": {}}}},
)
def get_input(
    video_id: str, field: Annotated[str, Path(max_length=40)], services: ServicesOf, access: MayRead
) -> Response:
    """A file that a job is made from, as it was sent."""
    job = find(services.database, video_id, access)
    if job is None:
        raise not_found(video_id)
    name = next((one for option, one in job.request.inputs.items() if form_field(option) == field), None)
    if name is None:
        raise ApiError(404, "the job has no such input", "input_not_found", param="field")
    size = services.store.size(name)
    kind = INPUT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    headers = {"Content-Length": str(size), "Content-Disposition": "attachment"}
    return StreamingResponse(services.store.read(name, 0, size), headers=headers, media_type=kind)


def all_jobs(services: Services, access: Access) -> StudioJobs:
    """Every job that the page shows."""
    jobs = unsettled(services.database, access, RECENT_SECONDS, MOST_ENDED)
    places = {job.id: place for place, job in enumerate(waiting(services.database, access))}
    shown = [described_job(services, job, places.get(job.id)) for job in jobs]
    queued = [job for job in shown if job.status == QUEUED]
    return StudioJobs(
        running=[job for job in shown if job.status == IN_PROGRESS],
        waiting=sorted(queued, key=lambda job: (job.place is None, job.place)),
        ended=[job for job in shown if job.status not in (QUEUED, IN_PROGRESS)],
    )


def described_job(services: Services, job: Job, place: int | None) -> StudioJob:
    """The job for the page."""
    return studio_job(job, services.facts(job.model), time.time(), place)
