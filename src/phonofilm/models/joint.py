"""The joint forward: the only place where the two towers and the bridge run together. Training and sampling both use it.

Its unit is the fused layer: both bridge directions i, then video block i and audio block i. That is what is checkpointed,
streamed, compiled and cached, from outside.

Shapes: b batch, f/h/w latent frames, rows, columns, t audio latents, n video tokens, m audio tokens, l text positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from phonofilm.errors import InputError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import BridgeScale, Clock, DualTowerConditionalBridge
from phonofilm.models.tower import TowerCondition
from phonofilm.models.video import Grid, WanModel

TEXT_LENGTH = 512


@dataclass(frozen=True)
class Positions:
    """Where every token is: tower rotations (complex64) and the shared clock. Made once per clip, used by every step."""

    grid: Grid
    video_rope: Tensor
    audio_rope: Tensor
    clock: Clock | None


@dataclass(frozen=True)
class JointCondition:
    """Everything a fused layer depends on besides the two states."""

    video: TowerCondition
    audio: TowerCondition
    positions: Positions
    scale: BridgeScale


@dataclass(frozen=True)
class JointOutput:
    """Predicted velocities (noise - data): video [b,16,f,h,w], audio [b,c,t]."""

    video: Tensor
    audio: Tensor


State = tuple[Tensor, Tensor]
"""What the towers hold between two layers: video [b,n,dv], audio [b,m,da]."""
FusedLayer = Callable[[int, Tensor, Tensor, JointCondition], State]
LayerCondition = Callable[[int], JointCondition]
"""The condition of each fused layer, by its index."""


def same_for_all_layers(condition: JointCondition) -> LayerCondition:
    return lambda index: condition


class JointDenoiser(nn.Module):
    """One video expert, the audio tower and the bridge. A second expert makes a second JointDenoiser that shares the rest."""

    def __init__(self, video: WanModel, audio: WanAudioModel, bridge: DualTowerConditionalBridge) -> None:
        super().__init__()
        if len(video.blocks) < len(audio.blocks):
            raise InputError(
                f"the video tower has {len(video.blocks)} layers and the audio tower {len(audio.blocks)}; "
                "expected at least as many video as audio layers"
            )
        self.video = video
        self.audio = audio
        self.bridge = bridge

    @property
    def num_layers(self) -> int:
        return len(self.video.blocks)

    def positions(self, grid: Grid, audio_tokens: int, frame_rate: float, device: torch.device) -> Positions:
        """grid: video tokens by (frame, row, column); frame_rate in pixel frames per second."""
        clock = self.bridge.clock(grid, audio_tokens, frame_rate)
        return Positions(
            grid,
            self.video.rope(grid).to(device),
            self.audio.rope(audio_tokens).to(device),
            None if clock is None else clock.to(device),
        )

    def embed(self, video_latents: Tensor, audio_latents: Tensor) -> tuple[Tensor, Tensor, Grid]:
        """video_latents [b,in_dim,f,h,w], audio_latents [b,c,t] -> both states before the first layer, and the video's grid."""
        video, grid = self.video.embed(video_latents)
        return video, self.audio.embed(audio_latents), grid

    def unembed(self, video: Tensor, audio: Tensor, condition: JointCondition) -> JointOutput:
        """Both states after the last layer -> both velocities."""
        return JointOutput(
            self.video.unembed(video, condition.video.time, condition.positions.grid),
            self.audio.unembed(audio, condition.audio.time),
        )

    def layer(self, index: int, video: Tensor, audio: Tensor, condition: JointCondition) -> tuple[Tensor, Tensor]:
        """The fused layer. video [b,n,dv], audio [b,m,da] -> the same shapes. Past the audio tower's end video runs alone."""
        positions = condition.positions
        if index in self.bridge.interaction_layers and not condition.scale.is_off:
            video, audio = self.bridge(index, video, audio, positions.clock, positions.grid, condition.scale)
        video = self.video.blocks[index](
            video, condition.video.modulation, positions.video_rope, condition.video.text, condition.video.text_bias
        )
        if index < len(self.audio.blocks):
            audio = self.audio.blocks[index](
                audio, condition.audio.modulation, positions.audio_rope, condition.audio.text, condition.audio.text_bias
            )
        return video, audio

    def layer_modules(self, index: int) -> Iterator[nn.Module]:
        """The modules that fused layer `index` uses, for whoever moves, compiles or counts them."""
        yield self.video.blocks[index]
        if index < len(self.audio.blocks):
            yield self.audio.blocks[index]
        if index in self.bridge.interaction_layers:
            yield self.bridge.audio_to_video_conditioners[str(index)]
            yield self.bridge.video_to_audio_conditioners[str(index)]

    def condition(
        self,
        video_timestep: Tensor,
        audio_timestep: Tensor,
        batch: int,
        text: Tensor,
        text_bias: Tensor | None,
        bridge_scale: float | Tensor | BridgeScale,
        positions: Positions,
    ) -> JointCondition:
        """What all fused layers share in one evaluation; arguments as `forward` takes them, for `batch` samples."""
        return JointCondition(
            self.video.condition(_per_sample(video_timestep, batch), text, text_bias),
            self.audio.condition(_per_sample(audio_timestep, batch), text, text_bias),
            positions,
            bridge_scale if isinstance(bridge_scale, BridgeScale) else BridgeScale(bridge_scale, bridge_scale),
        )

    def run_layers(
        self,
        states: list[State],
        conditions: Sequence[LayerCondition],
        weights: Callable[[int], AbstractContextManager[object]] = nullcontext,
        layer: FusedLayer | None = None,
    ) -> None:
        """All fused layers, in place, for one or more evaluations that go through each layer together. The only loop over layers.

        `states[i]` and `conditions[i]` belong together; the latter is called with every layer's index in turn.
        `weights(index)` is entered around everything fused layer `index` computes; its weights must be in place inside.
        `layer`: called instead of `self.layer`, which it wraps.
        """
        layer = layer or self.layer
        for index in range(self.num_layers):
            with weights(index):
                for place, condition in enumerate(conditions):
                    states[place] = layer(index, *states[place], condition(index))

    def forward(
        self,
        video_latents: Tensor,
        audio_latents: Tensor,
        video_timestep: Tensor,
        audio_timestep: Tensor,
        text: Tensor,
        frame_rate: float,
        *,
        text_bias: Tensor | None = None,
        bridge_scale: float | Tensor | BridgeScale = 1.0,
        positions: Positions | None = None,
        gradient_checkpointing: bool = False,
    ) -> JointOutput:
        """One evaluation of both velocities.

        Args:
            video_latents: [b,in_dim,f,h,w]: noisy latents, mask (4), condition latents, in this order of channels.
            audio_latents: [b,c,t].
            video_timestep, audio_timestep: [b] or a single value, 0..1000, on the host.
            text: [b,l,text_dim] from the text encoder; zeros past each prompt's end, which are attended to.
            text_bias: [b,l], see `fold_text_padding`; None attends to all l positions alike.
            bridge_scale: 0 switches the bridge off; a tensor [b] scales it per sample; BridgeScale sets each direction.
            positions: from `positions()`, to save making them anew; must fit the latents' shapes.
            gradient_checkpointing: recompute each fused layer in the backward pass instead of keeping it.
        """
        video, audio, grid = self.embed(video_latents, audio_latents)
        if positions is None:
            positions = self.positions(grid, audio.shape[1], frame_rate, video_latents.device)
        batch = video_latents.shape[0]
        condition = self.condition(video_timestep, audio_timestep, batch, text, text_bias, bridge_scale, positions)
        states = [(video, audio)]
        del video, audio  # so that no state is kept beside the one that the layers work on
        layer = partial(checkpoint, self.layer, use_reentrant=False) if gradient_checkpointing else self.layer
        self.run_layers(states, [same_for_all_layers(condition)], layer=layer)
        return self.unembed(*states[0], condition)


def fold_text_padding(text: Tensor, lengths: Tensor, total: int = TEXT_LENGTH) -> tuple[Tensor, Tensor]:
    """The same text with fewer padding positions, exact up to rounding.

    text [b,l,d] with zeros past each sample's `lengths` [b]; the model attends to `total` positions. k identical keys
    weigh as much as one whose logit is raised by log k, so the padding shrinks to what the longest prompt leaves (at
    least one position). Returns text [b, max(lengths)+1, d] and its bias [b, max(lengths)+1], zero on real tokens.
    """
    longest = int(lengths.max())
    if longest >= total:
        return text[:, :total], torch.zeros(text.shape[0], total, device=text.device)
    kept = longest + 1
    folded = torch.zeros(text.shape[0], kept, text.shape[2], device=text.device, dtype=text.dtype)
    folded[:, : min(kept, text.shape[1])] = text[:, :kept]
    position = torch.arange(kept, device=text.device)
    lengths = lengths.to(text.device)[:, None]
    weight = torch.log((total - lengths) / (kept - lengths).clamp(min=1))
    return folded, torch.where(position >= lengths, weight, torch.zeros_like(weight))


def _per_sample(timestep: Tensor | float, batch: int) -> Tensor:
    """A timestep for each sample, float32 on the host: [b]."""
    value = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1)
    if value.numel() not in (1, batch):
        raise InputError(f"got {value.numel()} timesteps for a batch of {batch}; expected 1 or {batch}")
    return value.expand(batch) if math.prod(value.shape) == 1 else value
