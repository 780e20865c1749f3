"""One clip, planned: the second half, against a checkpoint. Every setting is resolved and checked before weights are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

import phonofilm
from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import NAMED_SIZES, Checkpoint
from phonofilm.generation.inputs import ClipInputs
from phonofilm.generation.loras import LoraUse
from phonofilm.generation.options import ClipOptions, parse_interval, parse_scales
from phonofilm.generation.outputs import CONTAINERS
from phonofilm.generation.placement.devices import Placement
from phonofilm.geometry import frames_for_seconds, nearest_multiple, parse_frame_rate, parse_frame_size
from phonofilm.pipeline.conditions import tokenize
from phonofilm.pipeline.edit_tasks import EditTask
from phonofilm.pipeline.guidance import EVERY_STEP, Guidance, guidance_per_step
from phonofilm.pipeline.request import Sizes, Tracks, plan_clip
from phonofilm.pipeline.schedule import Step
from phonofilm.pipeline.solvers import DEFAULT_SOLVER, check_solver
from phonofilm.pipeline.stepcache import NO_CACHE, cache_name, parse_cache
from phonofilm.pipeline.types import Decoded


@dataclass(frozen=True)
class Sampling:
    """How the latents are sampled: the pipeline's arguments of the same names, none of them left open."""

    num_inference_steps: int
    guidance_scale: float
    audio_guidance_scale: float
    modality_scale: float | tuple[float, ...]
    video_shift: float
    audio_shift: float
    boundary_ratio: float
    guidance_interval: tuple[float, float]
    solver: str
    cache: str


@dataclass(frozen=True)
class ClipPlan:
    """All that makes a clip (or several, one for each seed and output of `inputs`).

    `sizes` are as the pipeline takes them; `task.geometry` is what they come to. experts: "high" or "low" per step.
    """

    inputs: ClipInputs
    negative_prompt: str
    sizes: Sizes
    task: EditTask
    sampling: Sampling
    steps: tuple[Step, ...]
    experts: tuple[str, ...]
    guidance: tuple[Guidance, ...]
    loras: tuple[LoraUse, ...] = ()

    @property
    def forwards(self) -> int:
        """How often the model is run for a clip; a step cache may run it less."""
        return sum(len(scales.evaluations) for scales in self.guidance)

    @property
    def keeps_video_of(self) -> Path | None:
        """The file whose picture goes into the clip's file unchanged."""
        tracks = self.inputs.tracks
        keeps = tracks.retake is None or tracks.retake_tracks == "audio"
        return self.inputs.paths.get("video") if keeps and self.inputs.outputs[0].kind in CONTAINERS else None

    @property
    def keeps_audio_of(self) -> Path | None:
        """The file whose sound goes into the clip's file unchanged."""
        tracks, paths = self.inputs.tracks, self.inputs.paths
        return paths["video"] if tracks.retake is not None and tracks.retake_tracks == "video" else paths.get("audio")

    @property
    def frames_in_all(self) -> int:
        """Frames of the clip that is written: more than the model makes when it goes on from another."""
        tracks, made = self.inputs.tracks, self.task.geometry.num_frames
        if tracks.video is not None:
            return tracks.video.num_frames
        before = tracks.continue_from
        return made if before is None else before.num_frames - tracks.overlap_frames + made

    def settings(self) -> dict[str, Any]:
        """The options of provenance.SETTINGS, as used, less the seed."""
        geometry, sampling, tracks = self.task.geometry, self.sampling, self.inputs.tracks
        scales = sampling.modality_scale
        used: dict[str, Any] = {
            "prompt": self.inputs.prompt,
            "negative_prompt": self.negative_prompt,
            "size": f"{geometry.width}x{geometry.height}",
            "num_frames": geometry.num_frames,
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
        if self.inputs.image is not None or self.inputs.last_image is not None:
            used["image_fit"] = self.inputs.image_fit
        if tracks.continue_from is not None:
            used["overlap_frames"] = tracks.overlap_frames
        if tracks.retake is not None:
            used |= {"retake": ":".join(map(str, tracks.retake)), "retake_tracks": tracks.retake_tracks}
        return used

    def metadata(self, index: int, checkpoint: Checkpoint, placement: Placement) -> dict[str, Any]:
        """What the file of clip `index` says about itself."""
        return {
            **self.settings(),
            "seed": self.inputs.seeds[index],
            "inputs": [{"option": f.option, "path": f.path, "sha256": f.sha256} for f in self.inputs.files],
            **({"loras": [use.metadata() for use in self.loras]} if self.loras else {}),
            "model": checkpoint.portable_name,
            "fingerprint": checkpoint.fingerprint,
            "dtype": placement.dtype_name,
            "device": placement.device.type,
            "offload": placement.offload,
            **({"vae_tiling": True} if placement.vae_tiling else {}),
            "attention": placement.attention,
            "phonofilm": phonofilm.__version__,
        }


def without_media(plan: ClipPlan) -> ClipPlan:
    """The plan's sizes and settings alone, without the pictures and tracks in memory."""
    inputs = replace(plan.inputs, tracks=Tracks(), image=None, last_image=None)
    return replace(plan, inputs=inputs, task=EditTask(plan.task.geometry, None, None, None, _as_made))


def _as_made(made: Decoded) -> Decoded:
    return made


def plan(inputs: ClipInputs, checkpoint: Checkpoint) -> ClipPlan:
    """Resolve and check everything that needs no weights. Raises InputError for the first thing wrong."""
    options = inputs.options
    negative = checkpoint.defaults.negative_prompt if options.negative_prompt is None else options.negative_prompt
    tokenize(checkpoint.tokenizer, [inputs.prompt])
    tokenize(checkpoint.tokenizer, [negative], "negative prompt")
    sampling = _sampling(options, checkpoint)
    steps = checkpoint.scheduler.steps(sampling.num_inference_steps, sampling.video_shift, sampling.audio_shift)
    sizes = _sizes(inputs, checkpoint)
    task = plan_clip(inputs.tracks, sizes, checkpoint.geometry)
    if inputs.last_image is not None and task.geometry.num_frames < 2:
        raise InputError("a last frame was given for a clip of one frame; use num_frames 5 or more")
    return ClipPlan(
        inputs=inputs,
        negative_prompt=negative,
        sizes=sizes,
        task=task,
        sampling=sampling,
        steps=tuple(steps),
        experts=_experts(steps, sampling.boundary_ratio, checkpoint, task),
        guidance=tuple(
            guidance_per_step(
                len(steps),
                sampling.guidance_scale,
                sampling.audio_guidance_scale,
                sampling.modality_scale,
                sampling.guidance_interval,
            )
        ),
        loras=checkpoint.loras.take(options.lora),
    )


def _sampling(options: ClipOptions, checkpoint: Checkpoint) -> Sampling:
    defaults, shift = checkpoint.defaults, checkpoint.scheduler.config["shift"]
    guidance = defaults.guidance_scale if options.guidance_scale is None else options.guidance_scale
    boundary = checkpoint.boundary_ratio if options.boundary_ratio is None else options.boundary_ratio
    steps = defaults.num_inference_steps if options.steps is None else options.steps
    if not 0 <= boundary <= 1:
        raise InputError(f"boundary_ratio {boundary} is outside 0 to 1; the released models have 0.9")
    if not 1 <= steps <= checkpoint.train_timesteps:
        raise InputError(f"steps {steps} is outside 1 to {checkpoint.train_timesteps}; use for example 50")
    for name, value in (("video_shift", options.video_shift), ("audio_shift", options.audio_shift)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} {value} is not a finite number; use for example 5")
    return Sampling(
        num_inference_steps=steps,
        guidance_scale=guidance,
        audio_guidance_scale=guidance if options.audio_guidance_scale is None else options.audio_guidance_scale,
        modality_scale=defaults.modality_scale
        if options.modality_scale is None
        else parse_scales(options.modality_scale),
        video_shift=shift if options.video_shift is None else options.video_shift,
        audio_shift=shift if options.audio_shift is None else options.audio_shift,
        boundary_ratio=boundary,
        guidance_interval=EVERY_STEP
        if options.guidance_interval is None
        else parse_interval(options.guidance_interval),
        solver=DEFAULT_SOLVER if options.solver is None else check_solver(options.solver),
        cache=NO_CACHE if options.cache is None else cache_name(parse_cache(options.cache)),
    )


def _sizes(inputs: ClipInputs, checkpoint: Checkpoint) -> Sizes:
    options, default, clip = inputs.options, checkpoint.geometry, inputs.tracks.clip
    height, width = _height_width(options.size, checkpoint, inputs.image)
    rate = None if options.fps is None else parse_frame_rate(options.fps)
    if options.seconds is None:
        return Sizes(height, width, options.num_frames, rate)
    if options.num_frames is not None:
        raise InputError("seconds and num_frames were both given; give one")
    if not 0 < options.seconds < math.inf:
        raise InputError(f"seconds {options.seconds} is not positive; use for example 8")
    clip_rate = rate or (default.frame_rate if clip is None else clip.frame_rate)
    return Sizes(height, width, frames_for_seconds(options.seconds, clip_rate, default.temporal_factor), rate)


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


def _experts(steps: Sequence[Step], boundary_ratio: float, checkpoint: Checkpoint, task: EditTask) -> tuple[str, ...]:
    """Which expert runs at each step. A picture held whole is clean from the start: a matter for the low-noise one."""
    boundary = boundary_ratio * checkpoint.train_timesteps
    clean = task.video is not None and bool(task.video.where.all())
    high = (checkpoint.experts == 1 or (not clean and step.video.timestep >= boundary) for step in steps)
    return tuple("high" if is_high else "low" for is_high in high)
