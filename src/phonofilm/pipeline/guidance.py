"""Guidance: which evaluations of the model a step needs, and how their velocities add up. Knows no model.

With T the prompt, B the bridge and 0 their absence (negative prompt; bridge off both ways), the paper's dual guidance is
v = v(0,0) + s_B [v(0,B) - v(0,0)] + s_T [v(T,B) - v(0,B)], s_T per modality. Plain CFG is s_B = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.pipeline.sampling_limits import check_interval
from phonofilm.pipeline.types import Latents

EVERY_STEP = (0.0, 1.0)


class Evaluation(Enum):
    """One way to run the model: with the prompt or the negative prompt, with the bridge or without."""

    PROMPT = "v(T,B)"
    NEGATIVE = "v(0,B)"
    NEGATIVE_ALONE = "v(0,0)"


@dataclass(frozen=True)
class Guidance:
    """Scales of one step: s_T for video and for audio, and s_B."""

    video_text: float = 1.0
    audio_text: float = 1.0
    modality: float = 1.0

    def weights(self, evaluation: Evaluation) -> tuple[float, float]:
        """The factors of an evaluation's velocity in the guided one: (video, audio)."""
        texts = (self.video_text, self.audio_text)
        match evaluation:
            case Evaluation.PROMPT:
                return texts
            case Evaluation.NEGATIVE:
                return self.modality - texts[0], self.modality - texts[1]
            case Evaluation.NEGATIVE_ALONE:
                return 1 - self.modality, 1 - self.modality

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Those with a weight: three in general, two for plain CFG or s_B = s_T, one without guidance."""
        return tuple(e for e in Evaluation if any(self.weights(e)))


def guided(evaluate: Callable[[Sequence[Evaluation]], Sequence[Latents]], guidance: Guidance) -> Latents:
    """Run what `guidance` needs, all of it in one call, and add it up. What `evaluate` returns is overwritten."""
    video: Tensor | None = None
    audio: Tensor | None = None
    evaluations = guidance.evaluations
    for evaluation, velocity in zip(evaluations, evaluate(evaluations), strict=True):
        video_weight, audio_weight = guidance.weights(evaluation)
        video = velocity.video * video_weight if video is None else video.add_(velocity.video, alpha=video_weight)
        audio = velocity.audio * audio_weight if audio is None else audio.add_(velocity.audio, alpha=audio_weight)
    assert video is not None
    assert audio is not None
    return Latents(video, audio)


def guidance_per_step(
    steps: int,
    guidance_scale: float,
    audio_guidance_scale: float | None,
    modality_scale: float | Sequence[float] | None,
    interval: tuple[float, float] = EVERY_STEP,
) -> list[Guidance]:
    """The scales of every step. A `modality_scale` with several values is a schedule: spread evenly, linear in between.

    `interval`: the steps that are guided, as fractions of all: those with start <= index/steps < end. At the others one
    evaluation, prompt and bridge as they are, makes the velocity.
    """
    start, end = interval
    if interval != EVERY_STEP:
        check_interval(start, end)
    values = [1.0] if modality_scale is None else np.atleast_1d(np.asarray(modality_scale, dtype=float)).tolist()
    audio = guidance_scale if audio_guidance_scale is None else audio_guidance_scale
    named = {"guidance_scale": [guidance_scale], "audio_guidance_scale": [audio], "modality_scale": values}
    for name, scales in named.items():
        if not scales or not np.all(np.isfinite(scales)):
            raise InputError(f"{name} is {scales}; expected finite numbers, for example 5")
    schedule = (
        np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(values)), values)
        if len(values) > 1
        else values * steps
    )
    return [
        Guidance(guidance_scale, audio, float(scale)) if start <= index / steps < end else Guidance()
        for index, scale in enumerate(schedule)
    ]
