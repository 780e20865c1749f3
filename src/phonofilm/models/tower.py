"""What the video and the audio tower share: text and time embedding, the blocks, the head. Patches and positions are theirs.

Shapes: b batch, n tokens, l text positions, d width, e head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.models.layers import Block, Float32Linear, Head, KeysValues, timestep_embedding


@dataclass(frozen=True)
class TowerCondition:
    """What every block of a tower depends on: time [b,d], modulation [b,6,d], text [b,l,d], text_bias [b,l] or None.

    `text` may be the keys and values that one block makes of it, for that block alone.
    """

    time: Tensor
    modulation: Tensor
    text: Tensor | KeysValues
    text_bias: Tensor | None


class Tower(ModelMixin, ConfigMixin):
    """Base of both towers. A subclass sets `patch_embedding` first, then calls `build`."""

    _no_split_modules = ["Block"]  # noqa: RUF012 - diffusers reads a plain list
    _repeated_blocks = ["Block"]  # noqa: RUF012
    _supports_gradient_checkpointing = False
    patch_embedding: nn.Module

    def build(
        self,
        dim: int,
        ffn_dim: int,
        out_dim: int,
        text_dim: int,
        freq_dim: int,
        eps: float,
        patch_size: tuple[int, ...],
        num_heads: int,
        num_layers: int,
    ) -> None:
        self.text_embedding = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(Float32Linear(freq_dim, dim), nn.SiLU(), Float32Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), Float32Linear(dim, dim * 6))
        self.blocks = nn.ModuleList([Block(dim, num_heads, ffn_dim, eps) for _ in range(num_layers)])
        self.head = Head(dim, out_dim, patch_size, eps)

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype tokens travel in: that of the patch embedding, which no quantisation touches."""
        return self.patch_embedding.weight.dtype  # type: ignore[return-value]

    @property
    def compute_device(self) -> torch.device:
        return self.head.modulation.device

    def condition(self, timestep: Tensor, text: Tensor, text_bias: Tensor | None = None) -> TowerCondition:
        """timestep [b] (0..1000, on the host), text [b,l,text_dim] from the text encoder, text_bias [b,l] or None."""
        sinusoids = timestep_embedding(timestep, self.config["freq_dim"])
        time = self.time_embedding(sinusoids.to(text.device))
        modulation = self.time_projection(time).unflatten(1, (6, -1))
        dtype = self.compute_dtype
        return TowerCondition(time.to(dtype), modulation.to(dtype), self.text_embedding(text.to(dtype)), text_bias)


def refuse_unsupported(**options: Any) -> None:
    """Config keys of the file format that no released checkpoint switches on: a checkpoint that does is refused."""
    for name, value in options.items():
        if value:
            raise CheckpointError(
                f"config has {name}={value!r}, which no released MOVA checkpoint uses and Phonofilm does not implement; "
                f"expected {name}=false"
            )
