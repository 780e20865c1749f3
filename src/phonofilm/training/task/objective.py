"""The joint flow-matching objective as pure functions: noise a pair of latents, hide conditions, compare velocities.

Legend: b batch, c channels, f h w latent frames and sides, n audio latents, l text positions, d text width.
x_t = (1 - sigma) x_0 + sigma noise, velocity = noise - x_0. All randomness comes from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from phonofilm.training.config.training_config import ObjectiveConfig
from phonofilm.training.task.timesteps import Expert, draw_sigmas


@dataclass(frozen=True)
class Sample:
    """What is known about a micro-batch: clean latents, condition latents and which clips have sound.

    `video` and `condition` [b,c,f,h,w] (normalised), `audio` [b,c,n], `has_audio` [b] bool on the host; `white`
    [c,f,h,w] is the condition of a white first frame, which text-only sampling uses.
    """

    video: Tensor
    condition: Tensor
    audio: Tensor
    has_audio: Tensor
    white: Tensor


@dataclass(frozen=True)
class Draw:
    """Everything random about one micro-batch: two noises shaped as the latents and on their device, the rest [b], on the host.

    `learn_video`, `learn_audio`: 0 where a track is held clean or missing, and so is no target. `keep_caption`,
    `keep_first_frame`: bool. `bridge_scale`: 0 or 1.
    """

    video_sigma: Tensor
    audio_sigma: Tensor
    video_noise: Tensor
    audio_noise: Tensor
    learn_video: Tensor
    learn_audio: Tensor
    keep_caption: Tensor
    keep_first_frame: Tensor
    bridge_scale: Tensor


@dataclass(frozen=True)
class Noised:
    """The network's inputs, `video` [b,2c+4,f,h,w] and `audio` [b,c,n], and the velocities it should answer with."""

    video: Tensor
    audio: Tensor
    video_velocity: Tensor
    audio_velocity: Tensor


@dataclass(frozen=True)
class VelocityLoss:
    """Mean squared velocity errors: per sample [b], and their weighted sum over the batch, which is what is minimised."""

    video: Tensor
    audio: Tensor
    total: Tensor


def still_learnt(config: ObjectiveConfig, halted: Collection[str]) -> ObjectiveConfig:
    """The objective without the losses of the modalities that no longer learn."""
    return config.model_copy(update={f"{modality}_weight": 0.0 for modality in halted})


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_t for one sigma [b] per sample."""
    sigma = sigma.to(clean.device).view(-1, *[1] * (clean.ndim - 1))
    return (1 - sigma) * clean + sigma * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """The target, noise - x_0: where the straight path from the clean latents to the noise is heading."""
    return noise - clean


def draw(
    config: ObjectiveConfig, sample: Sample, expert: Expert, choices: torch.Generator, noise: torch.Generator
) -> Draw:
    """Draw sigmas, held tracks and dropouts from `choices` (on the host), noise from `noise` (on the latents' device).

    The high expert never sees a held video: a clean one is at timestep 0, in the low expert's part. A clip without
    sound has its bridge cut, so that the picture does not learn to listen to nothing. Where one track is held the
    bridge stays on, for there the given track could not be heard (or seen) without it.
    """
    count = sample.video.shape[0]
    sigmas = draw_sigmas(config.timesteps, expert, count, choices)
    held, unconditional, bridge, caption, first_frame = torch.rand(5, count, generator=choices)
    hold_video_share = 0.0 if expert == "high" else config.hold_video
    hold_video = (held < hold_video_share) & sample.has_audio
    hold_audio = (held >= 1 - config.hold_audio) & sample.has_audio
    hide_both = unconditional < config.unconditional_dropout
    cut = (hide_both | (bridge < config.bridge_dropout)) & ~hold_video & ~hold_audio
    device = noise.device
    return Draw(
        video_sigma=sigmas.video.masked_fill(hold_video, 0.0),
        audio_sigma=sigmas.audio.masked_fill(hold_audio, 0.0),
        video_noise=torch.randn(sample.video.shape, generator=noise, device=device),
        audio_noise=torch.randn(sample.audio.shape, generator=noise, device=device),
        learn_video=(~hold_video).float(),
        learn_audio=(~hold_audio & sample.has_audio).float(),
        keep_caption=~(hide_both | (caption < config.caption_dropout)),
        keep_first_frame=first_frame >= config.first_frame_dropout,
        bridge_scale=(~cut & sample.has_audio).float(),
    )


def with_condition(video: Tensor, condition: Tensor) -> Tensor:
    """The video tower's input: noisy latents, 4 mask channels (1 in the first latent frame), condition latents."""
    mask = torch.zeros_like(video[:, :4])
    mask[:, :, 0] = 1
    return torch.cat([video, mask, condition], dim=1)


def noised(sample: Sample, drawn: Draw) -> Noised:
    """Apply a draw: noise both tracks and swap the conditions of dropped first frames for the white one's."""
    keep = drawn.keep_first_frame.to(sample.white.device).view(-1, 1, 1, 1, 1)
    condition = torch.where(keep, sample.condition, sample.white)
    return Noised(
        video=with_condition(add_noise(sample.video, drawn.video_noise, drawn.video_sigma), condition),
        audio=add_noise(sample.audio, drawn.audio_noise, drawn.audio_sigma),
        video_velocity=velocity(sample.video, drawn.video_noise),
        audio_velocity=velocity(sample.audio, drawn.audio_noise),
    )


def velocity_loss(config: ObjectiveConfig, video: Tensor, audio: Tensor, target: Noised, drawn: Draw) -> VelocityLoss:
    """Compare predicted velocities with the target's.

    The sum is divided by the batch size, not by the samples left to learn from: so the gradient of a batch is the mean
    of its parts' gradients, however it is cut over micro-steps and processes.
    """
    video_error = (video.float() - target.video_velocity).square().flatten(1).mean(1)
    audio_error = (audio.float() - target.audio_velocity).square().flatten(1).mean(1)
    total = (
        config.video_weight * (video_error * drawn.learn_video.to(video_error.device)).mean()
        + config.audio_weight * (audio_error * drawn.learn_audio.to(audio_error.device)).mean()
    )
    return VelocityLoss(video_error.detach(), audio_error.detach(), total)
