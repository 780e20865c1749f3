"""A call, planned: every setting resolved and checked, the prompts tokenised, before any network runs or is even loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.media.images import Fit
from phonofilm.pipeline.argument_types import number
from phonofilm.pipeline.call_arguments import (
    ClipSizes,
    Defaults,
    Tracks,
    choose_edit_task,
    count_prompts,
    first_frames,
    frame_tensor,
)
from phonofilm.pipeline.conditions import tokenize
from phonofilm.pipeline.denoising import ExpertName, expert_for
from phonofilm.pipeline.edit_tasks import EditTask
from phonofilm.pipeline.few_steps import FewSteps, own_guidance, settings_against
from phonofilm.pipeline.given_media import Picture
from phonofilm.pipeline.guidance import EVERY_STEP, Evaluation, Guidance, guidance_per_step
from phonofilm.pipeline.keyframes import Keyframe, with_keyframes
from phonofilm.pipeline.sampling import clean_where_known
from phonofilm.pipeline.sampling_limits import NO_CACHE, RANGES, cache_name, check_range, check_solver, parse_cache
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, Step
from phonofilm.pipeline.solvers import DEFAULT_SOLVER
from phonofilm.pipeline.types import Text, Tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFacts:
    """What planning needs to know of a checkpoint, whose weights may not be loaded yet.

    `geometry`: a clip with no size set, in the checkpoint's own units. `experts`: one or two. `few_steps`: the settings of
    a distilled model, or of one with a distilled LoRA in it.
    """

    geometry: ClipGeometry
    defaults: Defaults
    scheduler: FlowMatchPairScheduler
    boundary_ratio: float
    experts: int
    tokenizer: Any | None
    few_steps: FewSteps | None = None


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample, as arguments of the pipeline's call; None: the checkpoint's default."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    modality_scale: float | Sequence[float] | None = None
    guidance_interval: tuple[float, float] = EVERY_STEP
    solver: str = DEFAULT_SOLVER
    cache: str = NO_CACHE
    bridge_scale: float = 1.0
    video_shift: float | None = None
    audio_shift: float | None = None
    boundary_ratio: float | None = None


@dataclass(frozen=True)
class Sampling:
    """The same with none of them left open."""

    num_inference_steps: int
    guidance_scale: float
    audio_guidance_scale: float
    modality_scale: float | tuple[float, ...]
    guidance_interval: tuple[float, float]
    solver: str
    cache: str
    bridge_scale: float
    video_shift: float
    audio_shift: float
    boundary_ratio: float


@dataclass(frozen=True)
class CallRequest:
    """What a call asks for. Prompts are text, or embeddings in their place; `image` is the first frame."""

    prompt: str | Sequence[str] | Text | None
    negative_prompt: str | Sequence[str] | Text | None = None
    image: Picture | Sequence[Picture] | None = None
    last_image: Picture | None = None
    image_fit: Fit = "crop"
    tracks: Tracks = field(default_factory=Tracks)
    sizes: ClipSizes = field(default_factory=ClipSizes)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    clips_per_prompt: int = 1
    keyframes: tuple[Keyframe, ...] = ()


@dataclass(frozen=True)
class SamplingPlan:
    """A call with nothing left to decide but its noise. One entry per step in `steps`, `experts` and `guidance`.

    `first_frames`, `last_frame`: float32 [1,3,h,w] in -1..1; one first frame for all prompts, or one for each.
    `negative_prompt` is None where no step needs it.
    """

    clips: int
    prompt: Tokens | Text
    negative_prompt: Tokens | Text | None
    first_frames: tuple[Tensor, ...]
    last_frame: Tensor | None
    task: EditTask
    sampling: Sampling
    steps: tuple[Step, ...]
    experts: tuple[ExpertName, ...]
    guidance: tuple[Guidance, ...]
    few_steps: FewSteps | None = None

    @property
    def against_few_steps(self) -> list[str]:
        """Settings that a distilled model should not have, each with what it was made for; also guidance of its own."""
        if self.few_steps is None:
            return []
        used = vars(self.sampling)
        return [
            *(
                f"{name} is {value}, and this model was distilled for {right}: the clip will be worse; leave {name} out"
                for name, (value, right) in settings_against(self.few_steps, used).items()
            ),
            *(
                f"this model's own settings have {name} {value:g}, and a distilled model has its guidance in its weights: the "
                f"clip may be spoilt; try {name} 1"
                for name, value in own_guidance(self.few_steps).items()
                if used[name] == value
            ),
        ]

    def warn(self) -> None:
        """Log what a distilled model should not have been given."""
        for text in self.against_few_steps:
            logger.warning("%s", text)

    @property
    def forwards(self) -> int:
        """How often the model is run for a clip; a step cache may run it less."""
        return sum(len(scales.evaluations) for scales in self.guidance)


def make_plan(request: CallRequest, model: ModelFacts) -> SamplingPlan:
    """Resolve and check everything that needs no weights. Raises InputError for the first thing that is wrong."""
    prompts = count_prompts(request.prompt)
    clips = prompts * request.clips_per_prompt
    sampling = _resolved(request.sampling, model)
    guidance = guidance_per_step(
        sampling.num_inference_steps,
        sampling.guidance_scale,
        sampling.audio_guidance_scale,
        sampling.modality_scale,
        sampling.guidance_interval,
    )
    task = choose_edit_task(request.tracks, request.sizes, model.geometry)
    keyframes = request.keyframes
    if task.lead and isinstance(request.image, Image.Image):
        keyframes = (Keyframe(0.0, request.image), *keyframes)  # the window begins with it, and so does the clip
    if keyframes:
        task = with_keyframes(task, keyframes, request.image_fit, has_last=request.last_image is not None)
    if request.last_image is not None and task.geometry.num_frames < 2:
        raise InputError("a last frame was given for a clip of one frame; use num_frames 5 or more")
    steps = model.scheduler.steps(sampling.num_inference_steps, sampling.video_shift, sampling.audio_shift)
    if task.video is not None or task.audio is not None:
        steps = clean_where_known(steps, task.video, task.audio)
    boundary = sampling.boundary_ratio * model.scheduler.config["num_train_timesteps"]
    return SamplingPlan(
        clips=clips,
        prompt=_tokens(model, request.prompt or "", "prompt"),
        negative_prompt=_negative(request, model, guidance),
        first_frames=first_frames(request.image, task, request.image_fit, prompts),
        last_frame=None
        if request.last_image is None
        else frame_tensor(request.last_image, task.geometry, request.image_fit, "last_image"),
        task=task,
        sampling=sampling,
        steps=tuple(steps),
        experts=tuple(expert_for(step.video.timestep, boundary, model.experts) for step in steps),
        guidance=tuple(guidance),
        few_steps=model.few_steps,
    )


def _resolved(options: SamplingOptions, model: ModelFacts) -> Sampling:
    defaults, shift = model.defaults, model.scheduler.config["shift"]
    if model.few_steps is not None:
        options = _with_few_steps(options, model.few_steps)
    steps = defaults.num_inference_steps if options.num_inference_steps is None else options.num_inference_steps
    most = model.scheduler.config["num_train_timesteps"]
    if not 1 <= steps <= most:
        raise InputError(f"num_inference_steps {steps} is outside 1 to {most}; use for example 50")
    own = {"video_shift": shift, "audio_shift": shift, "boundary_ratio": model.boundary_ratio}
    used: dict[str, float] = {}
    for name, default in {"guidance_scale": defaults.guidance_scale, **own, "audio_guidance_scale": None}.items():
        given = getattr(options, name)
        value = (used["guidance_scale"] if default is None else default) if given is None else given
        used[name] = check_range(name, number(value, name, RANGES[name].example))
    return Sampling(
        num_inference_steps=steps,
        guidance_scale=used["guidance_scale"],
        audio_guidance_scale=used["audio_guidance_scale"],
        modality_scale=_scales(defaults.modality_scale if options.modality_scale is None else options.modality_scale),
        guidance_interval=options.guidance_interval,
        solver=check_solver(options.solver),
        cache=NO_CACHE if options.cache == NO_CACHE else cache_name(parse_cache(options.cache)),
        bridge_scale=number(options.bridge_scale, "bridge_scale", 1),
        video_shift=used["video_shift"],
        audio_shift=used["audio_shift"],
        boundary_ratio=used["boundary_ratio"],
    )


def _with_few_steps(options: SamplingOptions, few: FewSteps) -> SamplingOptions:
    """The options with those that were left open as the distilled model wants them. The sound follows a guidance scale that
    was given, as it does elsewhere."""
    wanted = few.call_arguments()
    if options.guidance_scale is not None:
        del wanted["audio_guidance_scale"]
    return replace(options, **{name: value for name, value in wanted.items() if getattr(options, name) is None})


def _scales(given: float | Sequence[float]) -> float | tuple[float, ...]:
    if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str):
        return tuple(check_range("modality_scale", number(scale, "modality_scale", 2)) for scale in given)
    return check_range("modality_scale", number(given, "modality_scale", 2))


def _tokens(model: ModelFacts, prompts: str | Sequence[str] | Text, what: str) -> Tokens | Text:
    if isinstance(prompts, Text):
        return prompts
    if model.tokenizer is None:
        raise InputError("this pipeline was loaded without its tokenizer; give prompt_embeds instead of a prompt")
    return tokenize(model.tokenizer, [prompts] if isinstance(prompts, str) else prompts, what)


def _negative(request: CallRequest, model: ModelFacts, guidance: Sequence[Guidance]) -> Tokens | Text | None:
    needed = any(set(scales.evaluations) - {Evaluation.PROMPT} for scales in guidance)
    if not needed and model.tokenizer is None:
        return None
    negative = model.defaults.negative_prompt if request.negative_prompt is None else request.negative_prompt
    tokens = _tokens(model, negative, "negative prompt")  # checked in any case
    return tokens if needed else None
