"""Changing what a job asks for: the fields that were given over those that it has."""

from __future__ import annotations

from dataclasses import replace

from phonofilm.serving.api.fields import ChangeFields, VideoFields
from phonofilm.serving.api.lora_names import loras_of
from phonofilm.serving.api.services import Services
from phonofilm.serving.api.translate import check_request_for, options_of
from phonofilm.serving.jobs.job import Job, JobRequest


def changed_request(services: Services, job: Job, fields: ChangeFields) -> JobRequest:
    """The job's request with the changes, checked. Raises ApiError for one that could not be met."""
    given = fields.model_dump(exclude_none=True, exclude={"priority", "retake", "retake_tracks"})
    changed = options_of(VideoFields.model_validate({"prompt": job.request.prompt, **given}))
    changed |= {name: one for name in ("retake", "retake_tracks") if (one := getattr(fields, name)) is not None}
    kept = dict(job.request.options)
    for name, other in (("seconds", "num_frames"), ("num_frames", "seconds")):
        if name in changed:
            kept.pop(other, None)
    request = replace(job.request, options={**kept, **changed})
    if fields.loras is not None:
        request = replace(request, loras=loras_of(fields.loras, services.worker.loras))
    if fields.seed is not None:
        request = replace(request, seeds=[fields.seed + index for index in range(len(job.request.seeds))])
    check_request_for(request, services.checks(job.model, request))
    return request
