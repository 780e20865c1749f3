"""Several evaluations of the joint forward at once, layer by layer: each layer's weights are needed once for all of them.

Shapes: b batch, f/h/w latent frames, rows, columns, t audio latents, l text positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from phonofilm.models.bridge import BridgeScale
from phonofilm.models.joint import JointCondition, JointDenoiser, JointOutput, Positions, same_for_all_layers
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
    batch = inputs.video_latents.shape[0]
    video, audio, grid = denoiser.embed(inputs.video_latents, inputs.audio_latents)
    positions = inputs.positions
    if positions is None:
        positions = denoiser.positions(grid, audio.shape[1], inputs.frame_rate, inputs.video_latents.device)
    times = inputs.video_timestep, inputs.audio_timestep
    conditions = [
        denoiser.condition(*times, batch, one.text, one.text_bias, one.bridge_scale, positions) for one in conditionings
    ]
    states = [(video, audio)] * len(conditions)
    del video, audio  # so that no state is kept beside those that the layers work on
    by_layer = [same_for_all_layers(condition) for condition in conditions]
    if kept is not None:
        by_layer = [partial(_with_kept, denoiser, *pair) for pair in zip(conditions, kept, strict=True)]
    denoiser.run_layers(states, by_layer, weights)
    return [denoiser.unembed(*state, condition) for state, condition in zip(states, conditions, strict=True)]


def _with_kept(denoiser: JointDenoiser, condition: JointCondition, kept: KeptText, index: int) -> JointCondition:
    """The condition of layer `index`, with the text as its keys and values."""

    def tower(name: str, blocks: nn.ModuleList, own: TowerCondition) -> TowerCondition:
        if index >= len(blocks):
            return own
        if (index, name) not in kept:
            block = blocks[index]
            assert isinstance(block, Block)
            assert isinstance(own.text, Tensor)
            kept[index, name] = block.cross_attn.keys_values(own.text)
        return replace(own, text=kept[index, name])

    return replace(
        condition,
        video=tower("video", denoiser.video.blocks, condition.video),
        audio=tower("audio", denoiser.audio.blocks, condition.audio),
    )
