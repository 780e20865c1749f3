"""What is said once about planned clips before they are made: options that change nothing, and what the model does not know."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.expected_time import announcement, clip_seconds, measure_rates
from phonofilm.generation.known_prompts import MOST_FRAMES, SIDES, is_embedded, warn_if_unfamiliar
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.generation.placement.offload import empty_denoiser
from phonofilm.pipeline.guidance import Evaluation

logger = logging.getLogger(__name__)


def advise(plans: Sequence[ClipPlan], checkpoint: Checkpoint, placement: DevicePlacement) -> None:
    """Log what there is to say, as warnings: at most one of each kind for all of `plans`."""
    unused = dict.fromkeys(text for plan in plans for text in unused_options(plan))
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


def unused_options(plan: ClipPlan) -> list[str]:
    """Options that were given for a clip and change nothing in it, or spoil it, each with the reason."""
    options, task = plan.inputs.options, plan.sampling.task
    found = plan.sampling.against_few_steps if plan.sampling.few_steps else []
    evaluations = {one for scales in plan.sampling.guidance for one in scales.evaluations}
    if options.negative_prompt is not None and evaluations == {Evaluation.PROMPT}:
        found.append("negative_prompt changes nothing without guidance: guidance_scale is 1")
    if task.video is not None and task.video.whole:
        names = ("video_shift", "boundary_ratio")
        found += [
            f"{name} changes nothing: the picture is given" for name in names if getattr(options, name) is not None
        ]
    if task.audio is not None and task.audio.whole:
        names = ("audio_shift", "audio_guidance_scale")
        found += [f"{name} changes nothing: the sound is given" for name in names if getattr(options, name) is not None]
    return found


def _expected(plan: ClipPlan, checkpoint: Checkpoint) -> str | None:
    """How long the clip takes, where it is far larger than the model's own."""
    geometry = plan.sampling.task.geometry
    if geometry.num_frames <= MOST_FRAMES and max(geometry.height, geometry.width) <= SIDES[1]:
        return None
    denoiser = empty_denoiser(checkpoint, None)
    return announcement(clip_seconds(denoiser, geometry, plan.sampling.forwards, measure_rates(denoiser)), geometry)
