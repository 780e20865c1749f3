"""A step cache: where the model's output would change little, the last one is used again. Lossy, and off by default.

After EasyCache (Zhou et al. 2025): how much a velocity changes per movement of the latents is nearly constant over
neighbouring steps, so that the movement since the last computed step tells the change. One decision is made for both
tracks, by the one that changes more, and for all evaluations of a step; a clip of a batch shares it with the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phonofilm.pipeline.guidance import Evaluation
from phonofilm.pipeline.sampling import Velocity
from phonofilm.pipeline.schedule import Step
from phonofilm.pipeline.types import Latents

FIRST, FIRST_SHARE, LAST_SHARE = 3, 0.10, 0.12
SMALLEST = 1e-12  # instead of dividing by zero, where a track that is held does not move


def always_computed(phases: Sequence[object]) -> frozenset[int]:
    """Steps that are never skipped: the first tenth (3 at least), the last eighth, and both sides of a change of phase."""
    total = len(phases)
    ends = [*range(max(FIRST, math.ceil(FIRST_SHARE * total))), *range(total - math.ceil(LAST_SHARE * total), total)]
    switches = [side for i in range(1, total) if phases[i] != phases[i - 1] for side in (i - 1, i)]
    return frozenset(ends + switches)


@dataclass(frozen=True)
class _Computed:
    """A step that was computed: the latents it saw, and a copy of every velocity, since callers overwrite theirs."""

    phase: object
    latents: Latents
    velocities: dict[Evaluation, Latents]


class StepCache:
    """A velocity that answers some steps from memory.

    `phases` has one entry per step; what was computed in one phase is never used in another. `threshold`: the relative
    change of either track's velocity up to which a step is skipped. `skipped` counts those that were.
    """

    def __init__(self, velocity: Velocity, threshold: float, phases: Sequence[object]) -> None:
        self.skipped = 0
        self._velocity = velocity
        self._threshold = threshold
        self._phases = phases
        self._always = always_computed(phases)
        self._computed: list[_Computed] = []

    def __call__(self, step: Step, latents: Latents, evaluations: Sequence[Evaluation]) -> Sequence[Latents]:
        phase = self._phases[step.index]
        if self._computed and self._computed[-1].phase != phase:
            self._computed = []
        if step.index not in self._always and self._knows(evaluations) and self._change(latents) < self._threshold:
            self.skipped += 1
            return [_copy(self._computed[-1].velocities[evaluation]) for evaluation in evaluations]
        answers = self._velocity(step, latents, evaluations)
        kept = {evaluation: _copy(answer) for evaluation, answer in zip(evaluations, answers, strict=True)}
        self._computed = [*self._computed[-1:], _Computed(phase, latents, kept)]
        return answers

    def _knows(self, evaluations: Sequence[Evaluation]) -> bool:
        """Two computed steps have an evaluation in common, and the last has all that are asked."""
        if len(self._computed) < 2:
            return False
        before, last = self._computed
        return set(evaluations) <= last.velocities.keys() and bool(before.velocities.keys() & last.velocities.keys())

    def _change(self, latents: Latents) -> float:
        """The relative change of the velocity since the last computed step, of the track where it is larger."""
        before, last = self._computed
        evaluation = next(e for e in Evaluation if e in before.velocities and e in last.velocities)
        then, now = before.velocities[evaluation], last.velocities[evaluation]
        video = _relative_change(then.video, now.video, before.latents.video, last.latents.video, latents.video)
        audio = _relative_change(then.audio, now.audio, before.latents.audio, last.latents.audio, latents.audio)
        return float(torch.maximum(video, audio.to(video.device)))


def _relative_change(then: Tensor, now: Tensor, seen_then: Tensor, seen_now: Tensor, latents: Tensor) -> Tensor:
    """The change of `now` expected at `latents`, given how it came from `then`. A scalar; 0 where nothing moves."""
    rate = _distance(now, then) / _distance(seen_now, seen_then).clamp_min(SMALLEST)
    return rate * _distance(latents, seen_now) / now.abs().mean().clamp_min(SMALLEST)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


def _copy(latents: Latents) -> Latents:
    return Latents(latents.video.clone(), latents.audio.clone())
