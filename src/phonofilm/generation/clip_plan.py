"""One clip, planned against a checkpoint: every setting is resolved and checked before weights are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.few_step_students import facts_with, with_own_student
from phonofilm.generation.films.retakes import retakes_text
from phonofilm.generation.inputs import ClipInputs
from phonofilm.generation.loras import LoraUse
from phonofilm.generation.options import ClipOptions, parse_interval, parse_scales
from phonofilm.geometry import frames_for_seconds, nearest_multiple, parse_frame_rate, parse_frame_size
from phonofilm.media.clip import Clip
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.known import NAMED_SIZES
from phonofilm.pipeline.call_arguments import ClipSizes, Tracks
from phonofilm.pipeline.guidance import EVERY_STEP
from phonofilm.pipeline.sampling_limits import NO_CACHE
from phonofilm.pipeline.sampling_plan import CallRequest, SamplingOptions, SamplingPlan, make_plan
from phonofilm.pipeline.solvers import DEFAULT_SOLVER
from phonofilm.pipeline.types import Decoded


@dataclass(frozen=True)
class PlannedPart:
    """One of the model's runs for a clip that takes several.

    `plan` has black frames and silence where the runs before it will have made something; `given` puts that in their
    place, and `join` takes up what this run has made, in the plan's sense. `about` says in words what it makes.
    """

    plan: ClipPlan
    about: str
    given: Callable[[ClipPlan, Clip | None], ClipPlan]
    join: Callable[[ClipPlan, Clip | None, Clip], Clip]

    @property
    def frame_rate(self) -> Fraction:
        return self.plan.sampling.task.geometry.frame_rate

    @property
    def sampling_rate(self) -> int:
        return self.plan.sampling.task.geometry.sampling_rate


@dataclass(frozen=True)
class PlanFacts:
    """What a plan says of its clip that follows from the given pictures and tracks: its settings and its frames in all."""

    settings: Mapping[str, Any]
    frames_in_all: int


@dataclass(frozen=True)
class ClipPlan:
    """All that makes a clip: its inputs, the pipeline's plan of it, its LoRAs, its seed; and all of it in one line.

    `without_media` leaves the pictures and tracks out, and in `facts` what followed from them.

    A clip that takes several runs of the model has them in `parts`; `sampling` is then that of the largest of them, and
    `film_frames` what a film has in all.
    """

    inputs: ClipInputs
    negative_prompt: str
    sampling: SamplingPlan
    seed: int
    loras: tuple[LoraUse, ...] = ()
    line: str = ""
    parts: tuple[PlannedPart, ...] = ()
    film_frames: int | None = None
    facts: PlanFacts | None = None

    def __str__(self) -> str:
        return self.line

    def __repr__(self) -> str:
        """Short: the frames and tokens of a plan would fill pages."""
        return f"ClipPlan({self.line or self.inputs.prompt!r})"

    @property
    def frames_in_all(self) -> int:
        """Frames of the clip that is written: more than the model makes when it goes on from another."""
        if self.facts is not None:
            return self.facts.frames_in_all
        tracks, task = self.inputs.tracks, self.sampling.task
        made = self.film_frames or task.geometry.num_frames - task.lead
        if tracks.video is not None:
            return tracks.video.num_frames
        before = tracks.continue_from
        return made if before is None else before.num_frames - tracks.overlap_frames + made

    @property
    def runs(self) -> tuple[ClipPlan, ...]:
        """The plan of every run of the model."""
        return tuple(part.plan for part in self.parts) or (self,)

    @property
    def picture_file(self) -> Path | None:
        """The file whose picture the clip keeps unchanged."""
        tracks = self.inputs.tracks
        keeps = tracks.retake is None or tracks.retake_tracks == "audio"
        return self.inputs.paths.get("video") if keeps else None

    @property
    def sound_file(self) -> Path | None:
        """The file whose sound the clip keeps unchanged."""
        tracks, paths = self.inputs.tracks, self.inputs.paths
        keeps = tracks.retake is not None and tracks.retake_tracks == "video"
        return paths.get("video") if keeps else paths.get("audio")

    def settings(self) -> dict[str, Any]:
        """The options of provenance.SETTINGS, as used, less the seed."""
        if self.facts is not None:
            return dict(self.facts.settings)
        geometry, sampling, tracks = self.sampling.task.geometry, self.sampling.sampling, self.inputs.tracks
        scales = sampling.modality_scale
        used: dict[str, Any] = {
            "prompt": self.inputs.prompt,
            "negative_prompt": self.negative_prompt,
            "size": f"{geometry.width}x{geometry.height}",
            "num_frames": geometry.num_frames - self.sampling.task.lead,
            "fps": str(geometry.frame_rate),
            "steps": sampling.num_inference_steps,
            "guidance_scale": sampling.guidance_scale,
            "audio_guidance_scale": sampling.audio_guidance_scale,
            "modality_scale": ",".join(map(str, scales)) if isinstance(scales, tuple) else str(scales),
            "video_shift": sampling.video_shift,
            "audio_shift": sampling.audio_shift,
            "boundary_ratio": sampling.boundary_ratio,
            "guidance_interval": ":".join(str(part).removesuffix(".0") for part in sampling.guidance_interval),
            "solver": sampling.solver,
            "cache": sampling.cache,
        }
        if self.film_frames is not None:
            del used["num_frames"]
            used |= {"seconds": float(self.film_frames / geometry.frame_rate), "overlap_frames": tracks.overlap_frames}
            if self.inputs.options.part_seconds is not None:
                used["part_seconds"] = self.inputs.options.part_seconds
        if self.inputs.image is not None or self.inputs.last_image is not None or self.inputs.keyframes:
            used["image_fit"] = self.inputs.image_fit
        if tracks.continue_from is not None:
            used["overlap_frames"] = tracks.overlap_frames
        if tracks.retake is not None:
            used |= {"retake": retakes_text(self.inputs.retakes), "retake_tracks": tracks.retake_tracks}
        return used


def work_of(plan: ClipPlan) -> int:
    """Pixels of all frames, of every part, times the evaluations of the model: what clips of one size take is proportional."""
    runs = [(run.sampling.task.geometry, run.sampling.forwards) for run in plan.runs]
    return sum(one.height * one.width * one.num_frames * forwards for one, forwards in runs)


def without_media(plan: ClipPlan) -> ClipPlan:
    """The plan's sizes and settings alone, without the pictures and tracks in memory."""
    facts = PlanFacts(plan.settings(), plan.frames_in_all)
    inputs = replace(plan.inputs, tracks=Tracks(), image=None, last_image=None, keyframes=(), keyframe_files=())
    task = replace(plan.sampling.task, video=None, audio=None, first_frame=None, join=_as_made)
    parts = tuple(replace(part, plan=without_media(part.plan)) for part in plan.parts)
    sampling = replace(plan.sampling, task=task, first_frames=(), last_frame=None)
    return replace(plan, inputs=inputs, parts=parts, sampling=sampling, facts=facts)


def _as_made(made: Decoded) -> Decoded:
    return made


def plan_clip(inputs: ClipInputs, checkpoint: Checkpoint) -> ClipPlan:
    """Resolve and check everything that needs no weights. Raises InputError for the first thing wrong."""
    options, sampling = inputs.options, _sampling(inputs.options)
    if options.lora is None and (checkpoint.layout.folder / STUDENT_FILE).is_file():
        options = with_own_student(options, sampling, checkpoint)
    loras = checkpoint.loras.take(options.lora) if options.lora else ()
    request = CallRequest(
        inputs.prompt,
        options.negative_prompt,
        inputs.image,
        inputs.last_image,
        inputs.image_fit,
        inputs.tracks,
        _sizes(inputs, checkpoint),
        sampling,
        keyframes=inputs.keyframes,
    )
    return ClipPlan(
        inputs=inputs,
        negative_prompt=checkpoint.defaults.negative_prompt
        if options.negative_prompt is None
        else options.negative_prompt,
        sampling=make_plan(request, facts_with(checkpoint.facts, loras) if loras else checkpoint.facts),
        seed=inputs.seed,
        loras=loras,
    )


def _sampling(options: ClipOptions) -> SamplingOptions:
    interval, scale = options.guidance_interval, options.modality_scale
    return SamplingOptions(
        num_inference_steps=options.steps,
        guidance_scale=options.guidance_scale,
        audio_guidance_scale=options.audio_guidance_scale,
        modality_scale=None if scale is None else parse_scales(scale),
        guidance_interval=EVERY_STEP if interval is None else parse_interval(interval),
        solver=options.solver or DEFAULT_SOLVER,
        cache=options.cache or NO_CACHE,
        video_shift=options.video_shift,
        audio_shift=options.audio_shift,
        boundary_ratio=options.boundary_ratio,
    )


def _sizes(inputs: ClipInputs, checkpoint: Checkpoint) -> ClipSizes:
    options, default, clip = inputs.options, checkpoint.geometry, inputs.tracks.clip
    height, width = _height_width(options.size, checkpoint, inputs.image)
    rate = None if options.fps is None else parse_frame_rate(options.fps)
    if options.seconds is None:
        return ClipSizes(height, width, options.num_frames, rate)
    if options.num_frames is not None:
        raise InputError("seconds and num_frames were both given; give one")
    clip_rate = rate or (default.frame_rate if clip is None else clip.frame_rate)
    return ClipSizes(height, width, frames_for_seconds(options.seconds, clip_rate, default.temporal_factor), rate)


def _height_width(size: str | None, checkpoint: Checkpoint, image: Image.Image | None) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    if size in NAMED_SIZES:
        return NAMED_SIZES[size]
    if size == "auto":
        if image is None:
            raise InputError("size auto takes the shape of the image, and none was given; use for example 640x352")
        default = checkpoint.geometry
        scale = math.sqrt(default.height * default.width / (image.height * image.width))
        multiple = default.spatial_factor * default.patch
        height, width = (nearest_multiple(round(side * scale), multiple) for side in (image.height, image.width))
        return height, width
    return parse_frame_size(size, (*NAMED_SIZES, "auto"))
