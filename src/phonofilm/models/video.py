"""The video tower (either expert): patches, positions in time, rows and columns, and the way back to latents.

Shapes: b batch, c latent channels, (f, h, w) latent frames, rows, columns, n video tokens, d width, e head width.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from phonofilm.models.rotary import rope_table
from phonofilm.models.tower import Tower, refuse_unsupported

Grid = tuple[int, int, int]


class WanModel(Tower):
    """A video expert in the released layout. Constructor arguments are the keys of its config.json."""

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
        patch_size: tuple[int, int, int],
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
    ) -> None:
        super().__init__()
        refuse_unsupported(
            has_image_input=has_image_input,
            has_ref_conv=has_ref_conv,
            add_control_adapter=add_control_adapter,
            seperated_timestep=seperated_timestep,
            fuse_vae_embedding_in_latents=fuse_vae_embedding_in_latents,
        )
        self.patch_size = (patch_size[0], patch_size[1], patch_size[2])
        self.head_dim = dim // num_heads
        self.patch_embedding = nn.Conv3d(in_dim, dim, kernel_size=self.patch_size, stride=self.patch_size)
        self.build(dim, ffn_dim, out_dim, text_dim, freq_dim, eps, self.patch_size, num_heads, num_layers)

    def embed(self, latents: Tensor) -> tuple[Tensor, Grid]:
        """latents [b,in_dim,f,h,w] -> tokens [b,n,d] in frame, row, column order, and the token grid."""
        patches = self.patch_embedding(latents.to(self.compute_dtype))
        grid = (patches.shape[2], patches.shape[3], patches.shape[4])
        return patches.flatten(2).transpose(1, 2).contiguous(), grid

    def rope(self, grid: Grid) -> Tensor:
        """Rotations of every token of `grid`: complex64 [n,e/2] on the host. Time gets the channels that thirds leave over."""
        return _grid_rope(grid, self.head_dim)

    def unembed(self, tokens: Tensor, time: Tensor, grid: Grid) -> Tensor:
        """tokens [b,n,d], time [b,d] -> velocity [b,out_dim,f,h,w]. The head's channels are ordered (pt, ph, pw, c)."""
        return self.unpatchify(self.head(tokens, time), grid)

    def unpatchify(self, patches: Tensor, grid: Grid) -> Tensor:
        """What the head says of every token, [b,n,out_dim*prod(patch)] -> [b,out_dim,f,h,w]."""
        (f, h, w), (pt, ph, pw) = grid, self.patch_size
        patches = patches.reshape(-1, f, h, w, pt, ph, pw, self.config["out_dim"])
        return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """The tower alone, without sound. latents [b,in_dim,f,h,w], timestep [b], text [b,l,text_dim] -> [b,out_dim,f,h,w]."""
        tokens, grid = self.embed(latents)
        condition = self.condition(timestep, text)
        rope = self.rope(grid).to(tokens.device)
        for block in self.blocks:
            tokens = block(tokens, condition.modulation, rope, condition.text, condition.text_bias)
        return self.unembed(tokens, condition.time, grid)


def _grid_rope(grid: Grid, head_dim: int) -> Tensor:
    third = head_dim // 3
    channels = (head_dim - 2 * third, third, third)
    axes = [rope_table(np.arange(size), width) for size, width in zip(grid, channels, strict=True)]
    f, h, w = grid
    table = np.concatenate(
        [
            np.broadcast_to(axes[0][:, None, None], (f, h, w, axes[0].shape[-1])),
            np.broadcast_to(axes[1][None, :, None], (f, h, w, axes[1].shape[-1])),
            np.broadcast_to(axes[2][None, None, :], (f, h, w, axes[2].shape[-1])),
        ],
        axis=-1,
    )
    return torch.from_numpy(table.reshape(f * h * w, head_dim // 2))
