"""Several evaluations of the joint forward at once, layer by layer: each layer's weights are needed once for all of them.

Shapes: b batch, f/h/w latent frames, rows, columns, t audio latents, l text positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from phonofilm.models.bridge import BridgeScale
from phonofilm.models.joint import JointCondition, JointDenoiser, JointOutput, Positions


@dataclass(frozen=True)
class Moment:
    """What all evaluations of a step share: latents and their times, as `JointDenoiser.forward` takes them.

    video_latents [b,in_dim,f,h,w], audio_latents [b,c,t]; timesteps [b] or a single value, 0..1000, on the host.
    """

    video_latents: Tensor
    audio_latents: Tensor
    video_timestep: Tensor
    audio_timestep: Tensor
    frame_rate: float
    positions: Positions | None = None


@dataclass(frozen=True)
class Variant:
    """What one evaluation has for itself: text [b,l,text_dim], its bias [b,l] or None, and the bridge's strength."""

    text: Tensor
    text_bias: Tensor | None = None
    bridge_scale: float | Tensor | BridgeScale = 1.0


def forward_one(denoiser: JointDenoiser, moment: Moment, variant: Variant) -> JointOutput:
    """One evaluation, all its layers in one go."""
    output: JointOutput = denoiser(
        moment.video_latents,
        moment.audio_latents,
        moment.video_timestep,
        moment.audio_timestep,
        variant.text,
        moment.frame_rate,
        text_bias=variant.text_bias,
        bridge_scale=variant.bridge_scale,
        positions=moment.positions,
    )
    return output


def forward_many(
    denoiser: JointDenoiser,
    moment: Moment,
    variants: Sequence[Variant],
    weights: Callable[[int], AbstractContextManager[object]],
) -> list[JointOutput]:
    """The same numbers as one `denoiser(...)` for each variant.

    `weights(index)` is entered around everything fused layer `index` computes; its weights must be in place inside.
    """
    batch, device = moment.video_latents.shape[0], moment.video_latents.device
    video, audio, grid = denoiser.embed(moment.video_latents, moment.audio_latents)
    positions = moment.positions
    if positions is None:
        positions = denoiser.positions(grid, audio.shape[1], moment.frame_rate, device)
    video_time, audio_time = (
        torch.as_tensor(time, dtype=torch.float32).reshape(-1).expand(batch)
        for time in (moment.video_timestep, moment.audio_timestep)
    )
    told = [
        JointCondition(
            denoiser.video.condition(video_time, variant.text, variant.text_bias),
            denoiser.audio.condition(audio_time, variant.text, variant.text_bias),
            positions,
            _scale(variant.bridge_scale),
        )
        for variant in variants
    ]
    states = [(video, audio) for _ in variants]
    for index in range(denoiser.num_layers):
        with weights(index):
            states = [denoiser.layer(index, *state, one) for state, one in zip(states, told, strict=True)]
    return [denoiser.unembed(*state, one) for state, one in zip(states, told, strict=True)]


def _scale(given: float | Tensor | BridgeScale) -> BridgeScale:
    return given if isinstance(given, BridgeScale) else BridgeScale(given, given)
