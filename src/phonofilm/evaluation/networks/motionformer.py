"""Synchformer's video tower: a Motionformer (Patrick et al., 2021) whose blocks attend over time, then over space.

b: segments of 16 frames, f: 8 frame pairs, p: 14 x 14 patches, d: width, h: heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from phonofilm.evaluation.networks.class_token_layer import ClassTokenLayer

SEGMENT_FRAMES = 16
FRAME_PAIRS = SEGMENT_FRAMES // 2
PATCH = 16
SIDE = 224
PATCHES = (SIDE // PATCH) ** 2
_EPS = 1e-6


class Motionformer(nn.Module):
    """Segments of 16 frames -> 8 tokens each."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + PATCHES, width))
        self.temp_embed = nn.Parameter(torch.empty(1, FRAME_PAIRS, width))
        # Not used: the file holds the picture model's patches beside those of the video model.
        self.patch_embed = _Patches(nn.Conv2d(3, width, PATCH, stride=PATCH))
        self.patch_embed_3d = _Patches(nn.Conv3d(3, width, (2, PATCH, PATCH), stride=(2, PATCH, PATCH)))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.spatial_attn_agg = ClassTokenLayer(width, heads)

    def forward(self, segments: Tensor) -> Tensor:
        """[b, 3, 16, 224, 224], from -1 to 1 -> [b, 8, d]."""
        patches = self.patch_embed_3d.proj(segments).flatten(2).transpose(1, 2)  # [b, f p, d]
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self._positions()
        for block in self.blocks:
            tokens = block(tokens)
        frames = self.norm(tokens[:, 1:]).unflatten(1, (FRAME_PAIRS, PATCHES))
        summaries: Tensor = self.spatial_attn_agg.summarise(frames.flatten(0, 1)).unflatten(0, (-1, FRAME_PAIRS))
        return summaries

    def _positions(self) -> Tensor:
        """[1, 1 + f p, d]: where in the picture plus when in the segment."""
        over_space = self.pos_embed[:, 1:].repeat(1, FRAME_PAIRS, 1)
        over_time = self.temp_embed.repeat_interleave(PATCHES, 1)
        return torch.cat([self.pos_embed[:, :1], over_space + over_time], 1)


class _Patches(nn.Module):
    def __init__(self, proj: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=_EPS) for _ in range(3))
        self.attn, self.timeattn = _DividedAttention(width, heads), _DividedAttention(width, heads)
        self.mlp = _Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.timeattn(self.norm3(tokens), over_time=True)
        tokens = tokens + self.attn(self.norm1(tokens), over_time=False)
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]


class _DividedAttention(nn.Module):
    """Each patch attends to the same place at other times, or to other places at the same time, and to the class token.

    The class token attends to everything.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, over_time: bool) -> Tensor:
        """[b, 1 + f p, d] -> the same."""
        query, key, value = (
            self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # [b, h, n, d / h]
        whole = functional.scaled_dot_product_attention(query[:, :, :1], key, value)
        queries = _grouped(query, over_time)
        keys, values = (
            torch.cat([part[:, :, None, :1].expand(-1, -1, queries.shape[2], -1, -1), _grouped(part, over_time)], 3)
            for part in (key, value)
        )
        within = functional.scaled_dot_product_attention(queries, keys, values)
        within = within.transpose(2, 3) if over_time else within
        joined = torch.cat([whole, within.flatten(2, 3)], 2)
        return self.proj(joined.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]


def _grouped(part: Tensor, over_time: bool) -> Tensor:
    """[b, h, 1 + f p, d] without the class token -> [b, h, groups, members, d]: p groups of f, or f groups of p."""
    frames: Tensor = part[:, :, 1:].unflatten(2, (FRAME_PAIRS, PATCHES))
    return frames.transpose(2, 3) if over_time else frames
