"""Putting a request into the queue once more: with another prompt, other seeds, other settings, or as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phonofilm.serving.api.errors import ApiError, not_found
from phonofilm.serving.api.media import StoredMedia
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.translate import check_request_for
from phonofilm.serving.jobs.job import COMPLETED, Job, JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import IdempotencyConflict, NewJob, enter, find
from phonofilm.serving.security.access import Access
from phonofilm.serving.store.interface import INPUTS


def remixed(services: Services, access: Access, video_id: str, prompt: str) -> Job:
    """The same clip with another prompt. Raises ApiError (404, 409, 400)."""
    job = find(services.database, video_id, access)
    if job is None:
        raise not_found(video_id)
    if job.status != COMPLETED:
        raise ApiError(409, f"{job.id} is {job.status}; a completed video can be remixed", "video_not_ready")
    options = {**job.request.options, "prompt": prompt}
    request = replace(job.request, options=options, seeds=job.made.get("seeds", job.request.seeds), variation_of=None)
    return repeated(services, access, job, request)


def repeated(services: Services, access: Access, job: Job, request: JobRequest) -> Job:
    """A new job with `request` and copies of the files that `job` was made from. Raises ApiError and QueueFull."""
    if job.model not in services.worker.models:
        raise ApiError(
            409, f"the model {job.model} is not served here; choose another", "model_not_found", param="model"
        )
    job_id, media = new_job_id(), StoredMedia(urls=job.request.urls)
    try:
        for option, name in job.request.inputs.items():
            media.inputs[option] = f"{INPUTS}/{job_id}/{name.rpartition('/')[2]}"
            services.store.copy(name, media.inputs[option])
            media.nbytes += services.store.size(media.inputs[option])
        request = replace(request, inputs=media.inputs)
        check_request_for(request, services.checks(job.model, request))
        new = NewJob(job_id, request, job.model, nbytes=media.nbytes, remixed_from=job.id)
        return enter_job(services, new, access)[0]
    except BaseException:
        drop_media(services, media)
        raise


def varied(services: Services, access: Access, job: Job, request: JobRequest, seeds: Sequence[int]) -> list[Job]:
    """One new job for each seed."""
    return [repeated(services, access, job, replace(request, seeds=[seed])) for seed in seeds]


def enter_job(services: Services, new: NewJob, access: Access) -> tuple[Job, bool]:
    """`enter`, with a conflict of idempotency keys as the answer that clients get."""
    try:
        return enter(services.database, new, access, services.api.room)
    except IdempotencyConflict:
        message = "this Idempotency-Key was used for another request; use a new one"
        raise ApiError(409, message, "idempotency_conflict") from None


def drop_media(services: Services, media: StoredMedia) -> None:
    """Remove what was stored for a job that did not come to be."""
    for name in media.inputs.values():
        services.store.delete(name)
