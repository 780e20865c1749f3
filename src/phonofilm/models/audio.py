"""The audio tower: patches over time, positions, and the way back to latents.

Shapes: b batch, c latent channels, m audio tokens, d width, e head width.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.models.rotary import rope_table
from phonofilm.models.tower import Tower, refuse_unsupported

# The older checkpoints' audio VAE ran at 44100/2048 latents per second on a clock of 4 ticks per second.
OOBLECK_POSITION_SCALE = 4.0 / (44100 / 2048)


class WanAudioModel(Tower):
    """The audio tower in the released layout. Constructor arguments are the keys of its config.json."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        dim: int,
        in_dim: int,
        ffn_dim: int,
        out_dim: int,
        text_dim: int,
        freq_dim: int,
        eps: float,
        patch_size: tuple[int, ...],
        num_heads: int,
        num_layers: int,
        has_image_input: bool = False,
        has_image_pos_emb: bool = False,
        has_ref_conv: bool = False,
        add_control_adapter: bool = False,
        in_dim_control_adapter: int = 24,
        seperated_timestep: bool = False,
        require_vae_embedding: bool = True,
        require_clip_embedding: bool = True,
        fuse_vae_embedding_in_latents: bool = False,
        vae_type: Literal["oobleck", "dac"] = "oobleck",
    ) -> None:
        super().__init__()
        refuse_unsupported(
            has_image_input=has_image_input,
            has_ref_conv=has_ref_conv,
            add_control_adapter=add_control_adapter,
            seperated_timestep=seperated_timestep,
            fuse_vae_embedding_in_latents=fuse_vae_embedding_in_latents,
        )
        if vae_type not in ("dac", "oobleck"):
            raise CheckpointError(f"audio tower config has vae_type={vae_type!r}; expected 'dac' or 'oobleck'")
        self.patch_size = int(patch_size[0])
        self.head_dim = dim // num_heads
        self.patch_embedding = nn.Conv1d(in_dim, dim, kernel_size=self.patch_size, stride=self.patch_size)
        self.build(dim, ffn_dim, out_dim, text_dim, freq_dim, eps, (self.patch_size,), num_heads, num_layers)

    def embed(self, latents: Tensor) -> Tensor:
        """latents [b,in_dim,t] -> tokens [b,m,d], m = t / patch."""
        result: Tensor = self.patch_embedding(latents.to(self.compute_dtype)).transpose(1, 2).contiguous()
        return result

    def rope(self, tokens: int) -> Tensor:
        """Rotations of `tokens` positions: complex64 [m,e/2] on the host.

        A "dac" tower turns every channel with the token's index; an "oobleck" one only the channels that a video tower
        would give to time, on a slower clock.
        """
        positions = np.arange(tokens)
        if self.config["vae_type"] == "dac":
            return torch.from_numpy(rope_table(positions, self.head_dim))
        third = self.head_dim // 3
        turned = rope_table(positions * OOBLECK_POSITION_SCALE, self.head_dim - 2 * third)
        still = np.ones((tokens, self.head_dim // 2 - turned.shape[1]), dtype=np.complex64)
        return torch.from_numpy(np.concatenate([turned, still], axis=1))

    def unembed(self, tokens: Tensor, time: Tensor) -> Tensor:
        """tokens [b,m,d], time [b,d] -> velocity [b,out_dim,t]. The head's channels are ordered (patch, c)."""
        patches = self.head(tokens, time).unflatten(-1, (self.patch_size, -1))
        result: Tensor = patches.flatten(1, 2).transpose(1, 2)
        return result

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """The tower alone, without picture. latents [b,in_dim,t], timestep [b], text [b,l,text_dim] -> [b,out_dim,t]."""
        tokens = self.embed(latents)
        condition = self.condition(timestep, text)
        rope = self.rope(tokens.shape[1]).to(tokens.device)
        for block in self.blocks:
            tokens = block(tokens, condition.modulation, rope, condition.text, condition.text_bias)
        return self.unembed(tokens, condition.time)
