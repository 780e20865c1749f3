"""The joint forward over shared tokens: the same layers, each rank with its run of the video and all of the audio."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from phonofilm.models.bridge import Conditioner
from phonofilm.models.joint import JointCondition, JointDenoiser, JointOutput, Positions
from phonofilm.models.layers import Block
from phonofilm.models.video import Grid
from phonofilm.parallel.sequence_shard import SequenceShard


class SequenceParallelDenoiser(JointDenoiser):
    """A JointDenoiser whose video state holds this rank's tokens between `embed` and `unembed`. Made by `shared`."""

    shard: SequenceShard

    def positions(self, grid: Grid, audio_tokens: int, frame_rate: float, device: torch.device) -> Positions:
        self.shard.divide(grid[0] * grid[1] * grid[2])
        return self.shard.positions(super().positions(grid, audio_tokens, frame_rate, device))

    def embed(self, video_latents: Tensor, audio_latents: Tensor) -> tuple[Tensor, Tensor, Grid]:
        video, audio, grid = super().embed(video_latents, audio_latents)
        self.shard.divide(video.shape[1])
        return self.shard.cut(video, dim=1), audio, grid

    def unembed(self, video: Tensor, audio: Tensor, cond: JointCondition) -> JointOutput:
        """Both velocities, whole and the same on every rank."""
        patches = self.shard.gather(self.video.head(video, cond.video.time))
        audio_velocity = self.shard.same_everywhere(self.audio.unembed(audio, cond.audio.time))
        return JointOutput(self.video.unpatchify(patches, cond.positions.grid), audio_velocity)


def shard_sequence(denoisers: Sequence[JointDenoiser], shard: SequenceShard) -> list[SequenceParallelDenoiser]:
    """The denoisers on a share of the video's tokens. Their modules are from now on for this use only.

    Their video self-attention goes over all ranks' tokens, and so does the bridge's video-to-audio attention.
    """
    made = []
    for denoiser in denoisers:
        one = SequenceParallelDenoiser(denoiser.video, denoiser.audio, denoiser.bridge)
        one.shard = shard
        for block in one.video.blocks:
            assert isinstance(block, Block)
            block.self_attn.attend = shard.self_attention
        made.append(one)
    for bridge in {one.bridge for one in made}:
        for conditioner in bridge.video_to_audio_conditioners.values():
            assert isinstance(conditioner, Conditioner)
            conditioner.inner.attend = shard.bridge_attention
            if conditioner.per_frame_pooling is not None:
                # A run of tokens ends in the middle of a frame: pooling by frame needs them all.
                conditioner.per_frame_pooling.register_forward_pre_hook(_gathering(shard))
    return made


def _gathering(shard: SequenceShard):  # type: ignore[no-untyped-def] # the hook's type is PyTorch's affair
    def gather(module: nn.Module, given: tuple[Tensor, Grid]) -> tuple[Tensor, Grid]:
        return shard.gather(given[0]), given[1]

    return gather
