"""Teacher and student as velocities, the way of each through a part of the grid, and what the student's velocity should be.

Legend: b batch, c latent channels, f h w latent frames and sides, t audio latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from phonofilm.pipeline.denoising import ExpertName
from phonofilm.pipeline.guidance import Evaluation, Guidance
from phonofilm.pipeline.sampling import sample
from phonofilm.pipeline.schedule import Step, TrackStep
from phonofilm.pipeline.types import Latents
from phonofilm.training.task.distill_batch import DistillBatch
from phonofilm.training.task.joint_task import JointInputs, JointModel
from phonofilm.training.task.timesteps import Expert

UNGUIDED = Guidance()


@dataclass(frozen=True)
class Grid:
    """Shifts of both tracks and the number of training timesteps: enough to put steps between two others."""

    video_shift: float
    audio_shift: float
    train_timesteps: int

    def substeps(self, step: Step, count: int) -> list[Step]:
        """`step` cut into `count`, evenly before the shift; its ends stay exactly where they are."""
        video = _cut(step.video, count, self.video_shift, self.train_timesteps)
        audio = _cut(step.audio, count, self.audio_shift, self.train_timesteps)
        return [Step(i, count, *pair) for i, pair in enumerate(zip(video, audio, strict=True))]


def _cut(track: TrackStep, count: int, shift: float, train_timesteps: int) -> list[TrackStep]:
    if track.sigma == track.sigma_next:  # held
        return [track] * count
    first, last = (sigma / (shift - (shift - 1) * sigma) for sigma in (track.sigma, track.sigma_next))
    levels = [first + (last - first) * i / count for i in range(1, count)]
    inner = [shift * level / (1 + (shift - 1) * level) for level in levels]
    sigmas = [track.sigma, *inner, track.sigma_next]
    times = [track.timestep, *(train_timesteps * sigma for sigma in inner)]
    return [TrackStep(time, sigmas[i], sigmas[i + 1]) for i, time in enumerate(times)]


@dataclass(frozen=True)
class Policy:
    """The teacher or the student: its weights, where its experts change (a timestep), and how it is guided.

    `with_weights`: a block in which the model has these weights. `activate`: makes an expert ready to run.
    """

    model: JointModel
    with_weights: Callable[[], AbstractContextManager[None]]
    activate: Callable[[Expert], None]
    boundary: float
    guidance: Guidance

    def expert(self, step: Step) -> Expert:
        if self.model.low is None:
            return "both"
        name: ExpertName = "high" if step.video.timestep >= self.boundary else "low"
        return name

    def velocity(self, batch: DistillBatch, step: Step, latents: Latents, evaluation: Evaluation) -> Latents:
        """One forward's velocities, float32."""
        expert = self.expert(step)
        self.activate(expert)
        count = batch.size

        def every(value: float) -> Tensor:
            return torch.full((count,), value)

        # The model multiplies by 1000; what it gets is the sampler's timestep, which is not always 1000 times its sigma.
        inputs = JointInputs(
            torch.cat([latents.video, batch.condition], dim=1),
            latents.audio,
            every(step.video.timestep / 1000),
            every(step.audio.timestep / 1000),
            every(0.0 if evaluation is Evaluation.NEGATIVE_ALONE else 1.0),
            batch.prompts[evaluation],
            batch.frame_rate,
        )
        with self.with_weights():
            out = self.model(inputs, expert)
        return Latents(out.video.float(), out.audio.float())

    @torch.no_grad()
    def rollout(self, batch: DistillBatch, start: Latents, steps: Sequence[Step]) -> Latents:
        """The latents after these steps, by Euler's method, as the sampler goes."""

        def velocity(step: Step, latents: Latents, evaluations: Sequence[Evaluation]) -> list[Latents]:
            return [self.velocity(batch, step, latents, evaluation) for evaluation in evaluations]

        return sample(velocity, start, steps, [self.guidance] * len(steps))


def mean_velocity(start: Latents, end: Latents, step: Step) -> Latents:
    """The velocity that leads from `start` to `end` in one Euler step; zero for a track that is held."""
    return Latents(
        *(
            torch.zeros_like(a) if track.sigma == track.sigma_next else (b - a) / (track.sigma_next - track.sigma)
            for a, b, track in ((start.video, end.video, step.video), (start.audio, end.audio, step.audio))
        )
    )
