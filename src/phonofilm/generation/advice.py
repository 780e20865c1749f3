"""What is said once about planned clips before they are made: options that change nothing, and what the model does not know."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.expected_time import announcement, clip_seconds, measure_rates
from phonofilm.generation.few_step_students import weakened_students
from phonofilm.generation.known_prompts import MOST_FRAMES, SIDES, is_embedded, warn_if_unfamiliar
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.generation.placement.offload import empty_denoiser
from phonofilm.pipeline.guidance import EVERY_STEP, Evaluation, guidance_per_step
from phonofilm.pipeline.sampling_plan import ModelFacts

logger = logging.getLogger(__name__)


def advise(plans: Sequence[ClipPlan], checkpoint: Checkpoint, placement: DevicePlacement) -> None:
    """Log what there is to say, as warnings: at most one of each kind for all of `plans`."""
    unused = dict.fromkeys(text for plan in plans for text in unused_options(plan, checkpoint.facts))
    for text in unused:
        logger.warning("%s", text)
    # A LoRA may have taught it words and pictures of its own.
    plain = [plan for plan in plans if all(use.own for use in plan.loras)]
    if not plain or not is_embedded(checkpoint.layout.folder):
        return
    largest = max(plain, key=lambda plan: plan.sampling.task.geometry.video_tokens)
    warn_if_unfamiliar(
        checkpoint.layout.folder,
        [plan.inputs.prompt for plan in plain],
        [picture for plan in plain for picture in (plan.inputs.image, plan.inputs.last_image) if picture is not None],
        largest.sampling.task.geometry,
        checkpoint.tokenizer.get_vocab(),
        _expected(largest, checkpoint) if placement.device.type == "cpu" else None,
    )


def unused_options(plan: ClipPlan, model: ModelFacts) -> list[str]:
    """Options that were given for a clip and change nothing in it, or spoil it, each with the reason.

    One that is what the model has anyway goes without a word: a clip that is repeated gives all of them.
    """
    options, task = plan.inputs.options, plan.sampling.task
    found = plan.sampling.against_few_steps if plan.sampling.few_steps else []
    found = found + [use.idle for use in plan.loras if use.idle is not None]
    found = found + (weakened_students(plan.loras) if plan.loras else [])
    if all(step.evaluations == (Evaluation.PROMPT,) for step in plan.sampling.guidance):
        found += _unguided(plan, model.defaults.negative_prompt)
    shift = model.scheduler.config["shift"]
    own = {"video_shift": shift, "audio_shift": shift, "boundary_ratio": model.boundary_ratio}
    own["audio_guidance_scale"] = plan.sampling.sampling.guidance_scale
    unused: dict[str, str] = {}
    if model.experts == 1:
        unused["boundary_ratio"] = "this model has one expert for all noise"
    if task.video is not None and task.video.whole:
        unused |= dict.fromkeys(("video_shift", "boundary_ratio"), "the picture is given")
    if task.audio is not None and task.audio.whole:
        unused |= dict.fromkeys(("audio_shift", "audio_guidance_scale"), "the sound is given")
    given = {name: reason for name, reason in unused.items() if getattr(options, name) not in (None, own[name])}
    return found + [f"{name} changes nothing: {reason}" for name, reason in given.items()]


def _unguided(plan: ClipPlan, own_negative_prompt: str) -> list[str]:
    """Of the options for guidance, those that change nothing in a clip without a guided step."""
    options, sampling = plan.inputs.options, plan.sampling.sampling
    scales = (sampling.guidance_scale, sampling.audio_guidance_scale, sampling.modality_scale)
    everywhere = guidance_per_step(sampling.num_inference_steps, *scales)
    off = all(step.evaluations == (Evaluation.PROMPT,) for step in everywhere)
    interval = None if sampling.guidance_interval == EVERY_STEP else options.guidance_interval
    reason = "guidance_scale is 1" if off else f"guidance_interval {interval} holds no step"
    negative = None if options.negative_prompt == own_negative_prompt else options.negative_prompt
    given = {"negative_prompt": negative} | (
        {"guidance_interval": interval} if off else {"guidance_scale": options.guidance_scale}
    )
    found = [f"{name} changes nothing without guidance: {reason}" for name, value in given.items() if value is not None]
    return found or ([] if off else [f"nothing is guided: {reason}"])


def _expected(plan: ClipPlan, checkpoint: Checkpoint) -> str | None:
    """How long the clip takes, where it is far larger than the model's own."""
    geometry = plan.sampling.task.geometry
    if geometry.num_frames <= MOST_FRAMES and max(geometry.height, geometry.width) <= SIDES[1]:
        return None
    denoiser = empty_denoiser(checkpoint, None)
    return announcement(clip_seconds(denoiser, geometry, plan.sampling.forwards, measure_rates(denoiser)), geometry)
