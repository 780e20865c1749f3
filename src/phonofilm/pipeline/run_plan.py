"""Runs a ready plan: conditions, sampling, decoding. The plan is made in sampling_plan.py; nothing is checked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.pipeline import conditions, decode
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.denoising import Experts, ExpertVelocity, Resident, model_text
from phonofilm.pipeline.edit_tasks import EditTask
from phonofilm.pipeline.finite import require_finite
from phonofilm.pipeline.sampling import sample
from phonofilm.pipeline.sampling_limits import NO_CACHE, parse_cache
from phonofilm.pipeline.sampling_plan import SamplingPlan
from phonofilm.pipeline.schedule import Step
from phonofilm.pipeline.solvers import PairSolver
from phonofilm.pipeline.stepcache import StepCache
from phonofilm.pipeline.types import Decoded, Latents

if TYPE_CHECKING:
    from phonofilm.pipeline.mova import MovaPipeline

TENSOR_INPUTS = ("latents", "audio_latents")
StepCallback = Callable[["MovaPipeline", int, float, dict[str, Tensor]], dict[str, Tensor]]


def run_plan(
    pipe: MovaPipeline,
    plan: SamplingPlan,
    noise: Latents,
    output_type: str,
    callback: StepCallback | None,
    remove_video_dit: bool,
) -> MovaPipelineOutput:
    """The clips of `plan` from `noise`. The arguments are those of the pipeline's call."""
    device = noise.video.device
    text = conditions.texts_needed(pipe.encode_tokens, plan.prompt, plan.negative_prompt, plan.guidance, plan.clips)
    condition = _condition(pipe, plan, device)
    known_video = known_audio = None
    if plan.task.video is not None:
        known_video = conditions.known_video(pipe.video_vae, plan.task.video, plan.task.geometry, plan.clips, device)
    if plan.task.audio is not None:
        known_audio = conditions.known_audio(pipe.audio_vae, plan.task.audio, plan.task.geometry, plan.clips, device)
    experts = _experts(pipe, remove_video_dit)
    velocity = ExpertVelocity(
        experts,
        pipe.engine or Resident(experts),
        plan.experts,
        plan.task.geometry,
        condition,
        {evaluation: model_text(embeds, device) for evaluation, embeds in text.items()},
        plan.sampling.bridge_scale,
    )
    threshold = None if plan.sampling.cache == NO_CACHE else parse_cache(plan.sampling.cache)
    cached = None if threshold is None else StepCache(velocity, threshold, plan.experts)
    with pipe.progress_bar(total=len(plan.steps)) as bar:
        clean = sample(
            velocity if cached is None else cached,
            noise,
            plan.steps,
            plan.guidance,
            known_video=known_video,
            known_audio=known_audio,
            solver=PairSolver(plan.sampling.solver),
            phases=plan.experts,
            on_step=partial(_on_step, pipe, bar, callback),
        )
    require_finite("the sampled clip", clean.video, clean.audio)
    out = _decoded(pipe, plan.task, clean, output_type)
    out.forwards, out.steps_skipped = velocity.forwards, 0 if cached is None else cached.skipped
    return out


def _condition(pipe: MovaPipeline, plan: SamplingPlan, device: torch.device) -> Tensor:
    """The given first and last frames as the towers read them: one row per clip.

    That of a white first frame, which all clips from text alone have, is kept by the pipeline, for one size at a time and as
    long as the VAE is the same.
    """
    vae, geometry = pipe.video_vae, plan.task.geometry
    white = plan.last_frame is None and bool(torch.cat(plan.first_frames).eq(1).all())
    if not white:
        frames = [
            conditions.frame_condition(vae, geometry, device, first, plan.last_frame) for first in plan.first_frames
        ]
        return torch.cat(frames).repeat_interleave(plan.clips // len(frames), 0)
    versions = [None if p.is_inference() else p._version for p in vae.parameters()]
    tiled = getattr(vae, "use_tiling", False)
    key = [id(vae), vae.dtype, device, tiled, geometry.height, geometry.width, geometry.num_frames, versions]
    if pipe.kept_white is None or pipe.kept_white[0] != key or None in versions:
        made = conditions.frame_condition(vae, geometry, device, plan.first_frames[0])
        pipe.kept_white = (key, made.cpu())
    return pipe.kept_white[1].to(device).repeat_interleave(plan.clips, 0)


def _experts(pipe: MovaPipeline, remove_video_dit: bool) -> Experts:
    def release() -> None:
        pipe.video_dit = None
        pipe.forget_component("video_dit")
        if pipe.engine is not None:
            pipe.engine.release("high")

    removes = release if remove_video_dit and pipe.video_dit_2 is not None else None
    return Experts(pipe.video_dit, pipe.video_dit_2, pipe.audio_dit, pipe.dual_tower_bridge, removes)


def _on_step(
    pipe: MovaPipeline, bar: Any, callback: StepCallback | None, step: Step, now: Latents
) -> tuple[Latents, bool]:
    bar.update()
    if step.index == 0:
        require_finite("the clip after its first step", now.video, now.audio)
    if callback is not None:
        tensors = {"latents": now.video, "audio_latents": now.audio}
        tensors |= callback(pipe, step.index, step.video.timestep, tensors) or {}
        now = Latents(_like(now.video, tensors, "latents"), _like(now.audio, tensors, "audio_latents"))
    return now, pipe.interrupt


def _like(own: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    changed = tensors[name]
    if changed.shape != own.shape:
        raise InputError(
            f"callback_on_step_end returned {name} of shape {tuple(changed.shape)}; expected {tuple(own.shape)}"
        )
    return changed


def step_callback(callback: StepCallback | None, tensor_inputs: Sequence[str]) -> StepCallback | None:
    """The callback as `run_plan` calls it, with the latents that it asks for by name.

    Callbacks of diffusers' own class bring their names. Raises InputError for what cannot be called, and unknown names.
    """
    if callback is None:
        return None
    if not callable(callback):
        raise InputError(f"callback_on_step_end is a {type(callback).__name__}; expected a function")
    names = getattr(callback, "tensor_inputs", tensor_inputs)
    if unknown := [name for name in names if name not in TENSOR_INPUTS]:
        raise InputError(
            f"callback_on_step_end_tensor_inputs names {unknown[0]!r}; expected one of {', '.join(TENSOR_INPUTS)}"
        )

    def call(pipe: MovaPipeline, index: int, timestep: float, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return callback(pipe, index, timestep, {name: tensors[name] for name in names})

    return call


def _decoded(pipe: MovaPipeline, task: EditTask, clean: Latents, output_type: str) -> MovaPipelineOutput:
    geometry = task.geometry
    if output_type == "latent":
        return MovaPipelineOutput(clean.video, clean.audio, geometry.sampling_rate, geometry.frame_rate, is_latent=True)
    frames = decode.decode_video(pipe.video_vae, clean.video)
    sound = decode.decode_audio(pipe.audio_vae, clean.audio, geometry)
    made = [task.join(Decoded(f, s, geometry.sampling_rate)) for f, s in zip(frames, sound, strict=True)]
    return MovaPipelineOutput(*decode.to_output_type(made, output_type), made[0].sampling_rate, geometry.frame_rate)
