"""The route that plans a clip before it is asked for: whether it can be made here, how long it takes, what it needs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from phonofilm.errors import CheckpointError, InputError, MediaError
from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.body import RequestBody, read_body
from phonofilm.serving.api.errors import ApiError, invalid, validation_error
from phonofilm.serving.api.fields import EditFields, ExtensionFields, VideoFields
from phonofilm.serving.api.lora_names import loras_of
from phonofilm.serving.api.media import FILE_FIELDS, StoredMedia, store_media
from phonofilm.serving.api.openapi import body_of
from phonofilm.serving.api.queue_again import drop_media
from phonofilm.serving.api.services import MayWrite, Services, ServicesOf
from phonofilm.serving.api.stretches import stretch_fields
from phonofilm.serving.api.translate import (
    check_request_for,
    model_named,
    options_of,
    param_in,
    seeds_of,
)
from phonofilm.serving.jobs.job import JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import UNKNOWN_SECONDS
from phonofilm.serving.security.access import Access
from phonofilm.serving.studio.expected import measured_seconds, queue_seconds
from phonofilm.serving.studio.plan_work import PlanFound, check_planned, plan_clip_here
from phonofilm.serving.worker.failures import without_paths

router = APIRouter(tags=["studio"], responses=ERRORS)
KINDS_OF_TASK: dict[str, type[VideoFields]] = {
    "create": VideoFields,
    "edit": EditFields,
    "extension": ExtensionFields,
}


class PlanRefusal(BaseModel):
    """Why the clip cannot be made, and the field to change."""

    message: str
    param: str | None
    code: str


class PlanClip(BaseModel):
    """The clip's sizes. forwards: evaluations of the model in all; parts: runs of the model, of a long film several."""

    width: int
    height: int
    num_frames: int
    fps: float
    seconds: float
    steps: int
    forwards: int
    parts: int


class PlanMemory(BaseModel):
    """What the clip takes and what there is.

    peak_bytes: weights, latents and activations at their most, there where it is made; host_bytes: of the computer's own
    memory. text: how the weights wait, or why they do not fit.
    """

    weights_bytes: int
    peak_bytes: int
    host_bytes: int
    available_bytes: int
    where: Literal["host", "device"]
    text: str | None


class Plan(BaseModel):
    """What would be made, and at what price. seconds: of one clip, measured here, computed, or at the very least.

    queue_seconds: until all is made that runs and waits; waiting_seconds: of these, for what waits.
    """

    possible: bool
    refused: list[PlanRefusal] = []
    line: str | None = None
    clip: PlanClip | None = None
    seconds: float | None = None
    seconds_basis: Literal["measured", "computed", "at_least"] | None = None
    queue_seconds: float | None = None
    waiting_seconds: float | None = None
    memory: PlanMemory | None = None
    warnings: list[str] = []
    unknown_words: list[str] = []
    suggestions: list[str] = []


@router.post(
    "/v1/studio/plan",
    operation_id="planClip",
    response_model=Plan,
    openapi_extra=body_of(VideoFields, FILE_FIELDS),
)
async def plan_clip(request: Request, services: ServicesOf, access: MayWrite) -> Plan:
    """Plan a clip: the body of POST /v1/videos; with `task` edit or extension, of /v1/videos/edits or /extensions."""
    body = await read_body(request)
    kind = KINDS_OF_TASK.get(str(body.fields.pop("task", "create")))
    if kind is None:
        raise invalid(f"task: expected one of {', '.join(KINDS_OF_TASK)}", "task")
    try:
        fields = kind.model_validate(body.fields)
    except ValidationError as error:
        return _refused(validation_error(error, kind))
    return await run_in_threadpool(_planned, services, access, fields, body)


def _planned(services: Services, access: Access, fields: VideoFields, body: RequestBody) -> Plan:
    """The plan, or why there is none: also what other routes refuse with an error is an answer here."""
    media = StoredMedia()
    try:
        model = model_named(fields.model, services.worker.models)
        if services.worker.engine is not None:
            return _unplanned(services, f"{model} runs elsewhere; what it takes there cannot be said from here")
        media = store_media(services, new_job_id(), fields, body.uploads, access)
        loras = loras_of(fields.loras, services.worker.loras)
        request = JobRequest(
            options_of(fields),
            media.inputs,
            media.urls,
            loras,
            seeds_of(fields, services.worker.limits.max_clips),
            sources=media.sources,
        )
        check_request_for(request, replace(services.checks(model, request), stretch=stretch_fields(fields)))
        found = services.planner.run(
            plan_clip_here, services.worker, model, request.options, request.inputs, request.loras
        )
        if found is None:
            return _unplanned(
                services, f"the model {model} is not on this machine yet; its first clip begins with a download"
            )
        check_planned(found)
    except ApiError as error:
        return _refused(error)
    except (InputError, MediaError, CheckpointError) as error:
        message = without_paths(str(error).removeprefix("request: "), services.worker.store, services.worker.loras)
        return _refused(ApiError(400, message, "invalid_value", param=param_in(message)))
    finally:
        drop_media(services, media)
    return _answer(services, model, found, body.warnings)


def _answer(services: Services, model: str, found: PlanFound, ignored: list[str]) -> Plan:
    measured = measured_seconds(services, model, found.clip)
    seconds = found.seconds if measured is None else measured
    running, waiting = queue_seconds(services, UNKNOWN_SECONDS if seconds is None else seconds)
    return Plan(
        possible=True,
        line=found.line,
        clip=PlanClip(**{name: getattr(found.clip, name) for name in PlanClip.model_fields}),
        seconds=seconds,
        seconds_basis=found.basis if measured is None else "measured",
        queue_seconds=running + waiting,
        waiting_seconds=waiting,
        memory=PlanMemory(**asdict(found.memory)),
        warnings=[*ignored, *found.warnings],
        unknown_words=found.unknown_words,
        suggestions=found.suggestions,
    )


def _unplanned(services: Services, reason: str) -> Plan:
    running, waiting = queue_seconds(services, UNKNOWN_SECONDS)
    return Plan(possible=True, queue_seconds=running + waiting, waiting_seconds=waiting, warnings=[reason])


def _refused(error: ApiError) -> Plan:
    return Plan(possible=False, refused=[PlanRefusal(message=error.message, param=error.param, code=error.code)])
