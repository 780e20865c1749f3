"""Several evaluations of the joint forward at once, layer by layer: each layer's weights are needed once for all of them.

Shapes: b batch, f/h/w latent frames, rows, columns, t audio latents, l text positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from phonofilm.models.bridge import BridgeScale
from phonofilm.models.joint import JointCondition, JointDenoiser, JointOutput, Positions
from phonofilm.models.layers import Block, KeysValues
from phonofilm.models.tower import TowerCondition


@dataclass(frozen=True)
class StepInputs:
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
class Conditioning:
    """What one evaluation has for itself: text [b,l,text_dim], its bias [b,l] or None, and the bridge's strength."""

    text: Tensor
    text_bias: Tensor | None = None
    bridge_scale: float | Tensor | BridgeScale = 1.0


KeptText = dict[tuple[int, str], KeysValues]
"""One text's keys and values by layer and tower ("video", "audio"). Small beside the weights that make them."""


def forward_one(denoiser: JointDenoiser, inputs: StepInputs, conditioning: Conditioning) -> JointOutput:
    """One evaluation, all its layers in one go."""
    output: JointOutput = denoiser(
        inputs.video_latents,
        inputs.audio_latents,
        inputs.video_timestep,
        inputs.audio_timestep,
        conditioning.text,
        inputs.frame_rate,
        text_bias=conditioning.text_bias,
        bridge_scale=conditioning.bridge_scale,
        positions=inputs.positions,
    )
    return output


def forward_many(
    denoiser: JointDenoiser,
    inputs: StepInputs,
    conditionings: Sequence[Conditioning],
    weights: Callable[[int], AbstractContextManager[object]],
    kept: Sequence[KeptText] | None = None,
) -> list[JointOutput]:
    """The same numbers as one `denoiser(...)` for each conditioning.

    `weights(index)` is entered around everything fused layer `index` computes; its weights must be in place inside.
    `kept`: for each conditioning what is known of its text; what is missing is computed and put there.
    """
    batch, device = inputs.video_latents.shape[0], inputs.video_latents.device
    video, audio, grid = denoiser.embed(inputs.video_latents, inputs.audio_latents)
    positions = inputs.positions
    if positions is None:
        positions = denoiser.positions(grid, audio.shape[1], inputs.frame_rate, device)
    video_time, audio_time = (
        torch.as_tensor(time, dtype=torch.float32).reshape(-1).expand(batch)
        for time in (inputs.video_timestep, inputs.audio_timestep)
    )
    told = [
        JointCondition(
            denoiser.video.condition(video_time, conditioning.text, conditioning.text_bias),
            denoiser.audio.condition(audio_time, conditioning.text, conditioning.text_bias),
            positions,
            _scale(conditioning.bridge_scale),
        )
        for conditioning in conditionings
    ]
    states = [(video, audio) for _ in conditionings]
    for index in range(denoiser.num_layers):
        with weights(index):
            here = told
            if kept is not None:
                here = [_with_kept(denoiser, index, one, text) for one, text in zip(told, kept, strict=True)]
            states = [denoiser.layer(index, *state, one) for state, one in zip(states, here, strict=True)]
    return [denoiser.unembed(*state, one) for state, one in zip(states, told, strict=True)]


def _with_kept(denoiser: JointDenoiser, index: int, told: JointCondition, kept: KeptText) -> JointCondition:
    """What layer `index` is told, with the text as its keys and values."""

    def tower(name: str, blocks: nn.ModuleList, condition: TowerCondition) -> TowerCondition:
        if index >= len(blocks):
            return condition
        if (index, name) not in kept:
            block = blocks[index]
            assert isinstance(block, Block)
            assert isinstance(condition.text, Tensor)
            kept[index, name] = block.cross_attn.keys_values(condition.text)
        return replace(condition, text=kept[index, name])

    return replace(
        told,
        video=tower("video", denoiser.video.blocks, told.video),
        audio=tower("audio", denoiser.audio.blocks, told.audio),
    )


def _scale(given: float | Tensor | BridgeScale) -> BridgeScale:
    return given if isinstance(given, BridgeScale) else BridgeScale(given, given)
