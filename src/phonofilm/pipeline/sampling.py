"""The sampling loop: from noise to two clean latents. It takes a callable for the velocities and knows no model.

A track may be given. Held whole, it is clean at its own timestep 0 from the first step to the last: the modalities were
trained with independent timesteps, so the model knows that state. Held in part (a prefix, or all but a stretch), the
known part is put back before every step, noised to the step's sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from phonofilm.pipeline.guidance import Evaluation, Guidance, Latents, guided
from phonofilm.pipeline.schedule import Step, TrackStep, euler_step

Velocity = Callable[[Step, Latents, Sequence[Evaluation]], Sequence[Latents]]
OnStep = Callable[[Step, Latents], tuple[Latents, bool]]
CLEAN = TrackStep(timestep=0.0, sigma=0.0, sigma_next=0.0)


@dataclass(frozen=True)
class Held:
    """What is known of one track: `clean` latents in the track's shape, and where they hold, bool [time]."""

    clean: Tensor
    where: Tensor

    @property
    def whole(self) -> bool:
        return bool(self.where.all())

    def mask(self, like: Tensor) -> Tensor:
        """`where` shaped to broadcast over latents: time is dimension 2 of both modalities."""
        return self.where.to(like.device).reshape(1, 1, -1, *[1] * (like.dim() - 3))

    def put_back(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """`latents` with the known part replaced by itself at noise level `sigma`."""
        return torch.where(self.mask(latents), (1 - sigma) * self.clean + sigma * noise, latents)


def sample(
    velocity: Velocity,
    noise: Latents,
    steps: Sequence[Step],
    guidance: Sequence[Guidance],
    *,
    held_video: Held | None = None,
    held_audio: Held | None = None,
    on_step: OnStep | None = None,
) -> Latents:
    """Integrate both latents from `noise` to sigma 0.

    Args:
        velocity: gives both velocities for a step and the latents, once for each way of running the model.
        noise: start latents, float32; they stay float32 between steps.
        steps, guidance: one entry per step.
        held_video, held_audio: what is given of a track.
        on_step: called after every step; returns the latents to go on with, and whether to stop here.
    """
    latents = noise
    for step, scales in zip(steps, guidance, strict=True):
        if held_video is not None and held_video.whole:
            step = replace(step, video=CLEAN)
        if held_audio is not None and held_audio.whole:
            step = replace(step, audio=CLEAN)
        latents = Latents(
            _known(held_video, latents.video, noise.video, step.video.sigma),
            _known(held_audio, latents.audio, noise.audio, step.audio.sigma),
        )
        pushed = guided(partial(velocity, step, latents), scales)
        latents = Latents(
            euler_step(latents.video, pushed.video, step.video),
            euler_step(latents.audio, pushed.audio, step.audio),
        )
        if on_step is not None:
            latents, stop = on_step(step, latents)
            if stop:
                return latents
    return Latents(
        _known(held_video, latents.video, noise.video, 0.0), _known(held_audio, latents.audio, noise.audio, 0.0)
    )


def _known(held: Held | None, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
    return latents if held is None else held.put_back(latents, noise, sigma)
