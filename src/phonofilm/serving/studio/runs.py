"""Routes to follow training runs: curves by modality, samples with sound, and stopping one with a checkpoint."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.fields import NO_UNDERSCORES
from phonofilm.serving.api.services import MayAdminister, Services, ServicesOf
from phonofilm.serving.studio.media_work import sample_prompts
from phonofilm.serving.studio.run_folders import (
    Point,
    RunFolder,
    ask_to_stop,
    curves_of,
    find_runs,
    modality_of,
    newest_lora,
    sample_path,
    samples_of,
    state_of,
    validated_on,
)
from phonofilm.untrusted import shown

router = APIRouter(tags=["studio"], responses=ERRORS)
SAMPLE_TYPES = {"video": "video/mp4", "sheet": "image/png"}


class Run(BaseModel):
    """A training run.

    folder: the name of the folder that the operator named; steps: at which it will end; lora: the newest LoRA that it wrote,
    from where the server was started. validated_on: whether the clips of its validation are others than it learns from.
    """

    id: str
    name: str
    folder: str
    state: Literal["running", "stopping", "stopped"]
    step: int | None
    steps: int | None
    seconds: float | None
    eta_seconds: float | None
    updated_at: float | None
    metrics: list[str]
    checkpoints: list[int]
    lora: str | None
    validated_on: Literal["other", "training"] | None
    can_stop: bool


class RunList(BaseModel):
    """All runs, those that run first."""

    data: list[Run]


class RunCurve(BaseModel):
    """A number over the updates: (step, seconds, value) each."""

    name: str
    modality: str | None
    points: list[Point]


class RunSample(BaseModel):
    """A clip that the model made at a step, and its contact sheet. prompt: as the clip's file says."""

    step: int
    name: str
    prompt: str
    video_url: str
    sheet_url: str


class RunDetails(BaseModel):
    """A run with its curves and samples."""

    run: Run
    curves: list[RunCurve]
    samples: list[RunSample]


@router.get("/v1/studio/runs", operation_id="listRuns")
def list_runs(services: ServicesOf, access: MayAdminister) -> RunList:
    """The training runs in the folders that the operator named."""
    runs = [_described(run) for run in find_runs(services.api.runs)]
    return RunList(data=sorted(runs, key=lambda run: (run.state == "stopped", -(run.updated_at or 0.0))))


@router.get("/v1/studio/runs/{run_id}", operation_id="getRun")
def get_run(
    run_id: str,
    services: ServicesOf,
    access: MayAdminister,
    after: Annotated[int, Query(ge=-1, le=10**12, description="Only what came after this step."), NO_UNDERSCORES] = -1,
) -> RunDetails:
    """A run's curves and samples."""
    run = _run_or_404(services, run_id)
    curves = [
        RunCurve(name=name, modality=modality_of(name), points=points) for name, points in curves_of(run, after).items()
    ]
    made = samples_of(run)
    newest = {one.name: sample_path(run, one.step, one.name, "video") for one in reversed(made)}
    prompts = services.media.run(sample_prompts, {name: file for name, file in newest.items() if file is not None})
    here = f"/v1/studio/runs/{run.id}/samples"
    samples = [
        RunSample(
            step=one.step,
            name=one.name,
            prompt=prompts.get(one.name, ""),
            video_url=f"{here}/{one.step}/{one.name}/video",
            sheet_url=f"{here}/{one.step}/{one.name}/sheet",
        )
        for one in made
        if one.step > after
    ]
    return RunDetails(run=_described(run), curves=curves, samples=samples)


@router.get(
    "/v1/studio/runs/{run_id}/samples/{step}/{name}/{variant}",
    operation_id="getRunSample",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"video/mp4": {}, "image/png": {}}}},
)
def get_sample(
    run_id: str,
    step: Annotated[int, Path(ge=0, le=10**12), NO_UNDERSCORES],
    name: Annotated[str, Path(max_length=100)],
    variant: Literal["video", "sheet"],
    services: ServicesOf,
    access: MayAdminister,
) -> Response:
    """A sample of a run, or its contact sheet."""
    file = sample_path(_run_or_404(services, run_id), step, name, variant)
    if file is None:
        raise ApiError(404, "the run has no such sample", "sample_not_found", param="name")
    return FileResponse(file, media_type=SAMPLE_TYPES[variant], headers={"Cache-Control": "private, no-cache"})


@router.post("/v1/studio/runs/{run_id}/stop", operation_id="stopRun")
def stop_run(run_id: str, services: ServicesOf, access: MayAdminister) -> Run:
    """Ask a run to save a checkpoint after the update in hand, and to end."""
    run = _run_or_404(services, run_id)
    if not state_of(run).is_running:
        raise ApiError(409, f"{run.name} does not run", "not_running")
    ask_to_stop(run)
    return _described(run)


def _run_or_404(services: Services, run_id: str) -> RunFolder:
    run = next((one for one in find_runs(services.api.runs) if one.id == run_id), None)
    if run is None:
        raise ApiError(404, f"no run {shown(run_id)}", "run_not_found", param="run_id")
    return run


def _described(run: RunFolder) -> Run:
    found = state_of(run)
    return Run(
        id=run.id,
        name=run.name,
        folder=run.root.name,
        state="stopping" if found.is_stopping else "running" if found.is_running else "stopped",
        step=found.step,
        steps=found.steps,
        seconds=found.seconds,
        eta_seconds=found.eta_seconds,
        updated_at=found.updated_at,
        metrics=found.metrics,
        checkpoints=found.checkpoints,
        lora=newest_lora(run),
        validated_on=validated_on(run),
        can_stop=found.is_running and not found.is_stopping,
    )
