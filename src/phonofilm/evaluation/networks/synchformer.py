"""Synchformer (Iashin et al., 2024): which of 21 offsets between picture and sound a transformer over both finds likeliest.

Names and shapes are those of the released model 24-01-04T16-39-21 as a bare state dict. b: clips, s: segments, d: width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from phonofilm.evaluation.networks.motionformer import FRAME_PAIRS, Motionformer
from phonofilm.evaluation.networks.spectrogram_transformer import COLUMNS, SpectrogramTransformer

COMPARED_SEGMENTS = 14
OFFSETS = 21
_POSITIONS = 1 + COMPARED_SEGMENTS * FRAME_PAIRS + 1 + COMPARED_SEGMENTS * COLUMNS


@dataclass(frozen=True)
class SynchformerSize:
    """The released model's size; tests take a smaller one."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    joint_depth: int = 3
    joint_heads: int = 8


class Synchformer(nn.Module):
    """Two towers that see one segment each, and a transformer that compares 14 segments of each."""

    def __init__(self, size: SynchformerSize | None = None) -> None:
        super().__init__()
        size = size or SynchformerSize()
        self.vfeat_extractor = Motionformer(size.width, size.depth, size.heads)
        self.afeat_extractor = SpectrogramTransformer(size.width, size.depth, size.heads)
        self.vproj = nn.Linear(size.width, size.width)
        self.aproj = nn.Linear(size.width, size.width)
        self.transformer = _OffsetTransformer(size.width, size.joint_depth, size.joint_heads)

    def embed_video(self, segments: Tensor) -> Tensor:
        """[s, 3, 16, 224, 224], from -1 to 1 -> [s, 8, d]."""
        out: Tensor = self.vfeat_extractor(segments)
        return out

    def embed_sound(self, spectrograms: Tensor) -> Tensor:
        """[s, 128, 66] -> [s, 6, d]."""
        out: Tensor = self.afeat_extractor(spectrograms)
        return out

    def compare(self, video: Tensor, sound: Tensor) -> Tensor:
        """[b, 14, 8, d] and [b, 14, 6, d] -> logits [b, 21] of offsets from -2 to 2 s."""
        out: Tensor = self.transformer(self.vproj(video).flatten(1, 2), self.aproj(sound).flatten(1, 2))
        return out


class _OffsetTransformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.vis_in_lnorm, self.aud_in_lnorm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.OFF_tok = nn.Parameter(torch.empty(1, 1, width))
        self.MOD_tok = nn.Parameter(torch.empty(1, 1, width))
        self.pos_emb_cfg = nn.ParameterDict({"pos_emb": nn.Parameter(torch.empty(1, _POSITIONS, width))})
        self.blocks = nn.Sequential(*(_JointBlock(width, heads) for _ in range(depth)))
        self.ln_f = nn.LayerNorm(width)
        self.off_head = nn.Linear(width, OFFSETS)

    def forward(self, video: Tensor, sound: Tensor) -> Tensor:
        question, divider = (token.expand(len(video), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        tokens = torch.cat([question, self.vis_in_lnorm(video), divider, self.aud_in_lnorm(sound)], 1)
        tokens = self.blocks(tokens + self.pos_emb_cfg["pos_emb"])
        return self.off_head(self.ln_f(tokens)[:, 0])  # type: ignore[no-any-return]


class _JointBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({name: nn.Linear(width, width) for name in ("key", "query", "value", "proj")})
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.ln1(tokens)
        query, key, value = (
            self.attn[name](normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.attn["proj"](attended)
        return tokens + self.mlp(self.ln2(tokens))  # type: ignore[no-any-return]
