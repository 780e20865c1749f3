"""What a model that was distilled to few steps must be sampled with: its grid, its experts' boundary and no guidance.

A LoRA file carries it as JSON in its metadata, a checkpoint in model_index.json. Guidance left on ruins such a model, for
the teacher's is in its weights already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from phonofilm.errors import CheckpointError
from phonofilm.models.config_check import FEW_STEPS_KEY, check_few_steps
from phonofilm.pipeline.denoising import ExpertName, expert_for
from phonofilm.pipeline.sampling_limits import NO_CACHE
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, Step
from phonofilm.pipeline.solvers import DEFAULT_SOLVER
from phonofilm.untrusted import parse_json


@dataclass(frozen=True)
class FewSteps:
    """The settings of a distilled model, under the names of the pipeline's call (`steps` is num_inference_steps)."""

    steps: int
    video_shift: float
    audio_shift: float
    boundary_ratio: float
    guidance_scale: float = 1.0
    audio_guidance_scale: float = 1.0
    modality_scale: float = 1.0

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def call_arguments(self) -> dict[str, Any]:
        """As arguments of the pipeline's call."""
        arguments = asdict(self)
        return {"num_inference_steps": arguments.pop("steps"), **arguments}


def few_steps_from(content: Any, origin: str) -> FewSteps:
    """From JSON text, or from what it was parsed to. Raises CheckpointError, naming `origin`, for anything else."""
    if isinstance(content, str):
        try:
            content = parse_json(content)
        except ValueError as error:
            raise CheckpointError(f"{origin} has {FEW_STEPS_KEY} that is no JSON: {error}") from error
    if content is None:
        raise CheckpointError(f"{origin} has no {FEW_STEPS_KEY}")
    try:
        check_few_steps(content)
    except ValueError as error:
        raise CheckpointError(f"{origin} {error}") from error
    numbers = {name: float(value) for name, value in content.items() if name != "steps"}
    return FewSteps(steps=content["steps"], **numbers)


def index_entries(few: FewSteps, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What model_index.json says of a distilled model, its settings also under the names that any reader takes for defaults.

    `defaults`: those of the checkpoint that it was made from.
    """
    usual = {
        "num_inference_steps": few.steps,
        "guidance_scale": few.guidance_scale,
        "modality_scale": few.modality_scale,
    }
    return {FEW_STEPS_KEY: asdict(few), "boundary_ratio": few.boundary_ratio, "defaults": {**defaults, **usual}}


def few_step_boundary(steps: list[Step], teacher_boundary: float, train_timesteps: int) -> float:
    """The boundary_ratio at which a student of these steps changes experts.

    Its high-noise expert takes the steps that lie above the teacher's boundary from end to end, one at least; within a
    step that crosses it the teacher changes experts, and that step is the low-noise expert's. Half-way between two steps,
    so that no rounding of a timestep moves a step to the other expert.
    """
    levels = [step.video.timestep / train_timesteps for step in steps]
    whole = sum(step.video.sigma_next >= teacher_boundary for step in steps)
    high = min(max(1, whole), len(steps))
    return levels[-1] / 2 if high == len(steps) else (levels[high - 1] + levels[high]) / 2


def few_step_settings(
    scheduler: FlowMatchPairScheduler, count: int, video_shift: float, audio_shift: float, teacher_boundary: float
) -> FewSteps:
    """The settings of a student of `count` steps on the scheduler's own grid."""
    steps = scheduler.steps(count, video_shift, audio_shift)
    boundary = few_step_boundary(steps, teacher_boundary, scheduler.config["num_train_timesteps"])
    return FewSteps(count, video_shift, audio_shift, boundary)


def step_experts(steps: list[Step], boundary_ratio: float, train_timesteps: int, experts: int) -> list[ExpertName]:
    """Whose turn each step is, as the sampler decides it."""
    return [expert_for(step.video.timestep, boundary_ratio * train_timesteps, experts) for step in steps]


def settings_against(few: FewSteps, used: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """The settings of a call that differ from those of the distilled model: (used, the model's as text) by name.

    It learnt every one of its steps as Euler's method takes it, none left out.
    """
    wanted = {**few.call_arguments(), "solver": DEFAULT_SOLVER, "cache": NO_CACHE}
    against = {name: value for name, value in wanted.items() if used[name] != value}
    return {name: (used[name], str(value).removesuffix(".0")) for name, value in against.items()}


def own_guidance(few: FewSteps) -> dict[str, float]:
    """The scales of a distilled model that are guidance on top of what is in its weights, by the names of a call."""
    return {name: value for name, value in few.call_arguments().items() if name.endswith("_scale") and value != 1}
