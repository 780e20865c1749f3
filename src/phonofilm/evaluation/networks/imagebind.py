"""Two of ImageBind's towers (Girdhar et al., 2023), picture and sound, which put both into one space.

Names and shapes are those of imagebind_huge.pth, whose other towers (text, depth, heat, motion) are not built. b: clips,
n: tokens, d: width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES = 2
SIDE = 224
MEL_BANDS = 128
MEL_STEPS = 204
TOWERS = ("vision", "audio")
_VIDEO_PATCH = (FRAMES, 14, 14)
_AUDIO_PATCH, _AUDIO_STRIDE = 16, 10
_EPS = 1e-6


@dataclass(frozen=True)
class ImageBindSize:
    """The released model's size ("huge"); tests take a smaller one."""

    width: int = 1280
    depth: int = 32
    heads: int = 16
    audio_width: int = 768
    audio_depth: int = 12
    audio_heads: int = 12
    embedding: int = 1024


class ImageBind(nn.Module):
    """Pictures and sounds as unit vectors of 1024 numbers."""

    def __init__(self, size: ImageBindSize | None = None) -> None:
        super().__init__()
        size = size or ImageBindSize()
        self.modality_preprocessors = nn.ModuleDict(
            {"vision": _VideoTokens(size.width), "audio": _AudioTokens(size.audio_width)}
        )
        self.modality_trunks = nn.ModuleDict(
            {
                "vision": _Trunk(size.width, size.depth, size.heads, norm_first=True, extra_key=False),
                "audio": _Trunk(size.audio_width, size.audio_depth, size.audio_heads, norm_first=False, extra_key=True),
            }
        )
        self.modality_heads = nn.ModuleDict(
            {"vision": _head(size.width, size.embedding), "audio": _head(size.audio_width, size.embedding)}
        )
        self.modality_postprocessors = nn.ModuleDict({"vision": nn.Identity(), "audio": _audio_scale()})

    def embed_video(self, clips: Tensor) -> Tensor:
        """Two frames each, [b, 3, 2, 224, 224], CLIP's mean and deviation taken out -> [b, 1024], length 1."""
        return self._embed("vision", clips)

    def embed_sound(self, spectrograms: Tensor) -> Tensor:
        """[b, 1, 128, 204] -> [b, 1024], length 20 in the released model."""
        scale = self.modality_postprocessors["audio"][1].log_logit_scale.exp().clamp(max=100)  # type: ignore[index]
        scaled: Tensor = scale * self._embed("audio", spectrograms)
        return scaled

    def _embed(self, tower: str, inputs: Tensor) -> Tensor:
        tokens = self.modality_trunks[tower](self.modality_preprocessors[tower](inputs))
        norm, _, projection = self.modality_heads[tower].children()
        return functional.normalize(projection(norm(tokens[:, 0])), dim=-1)


class _Tokens(nn.Module):
    """Patches, a class token in front, and a learnt vector per place."""

    def __init__(self, width: int, patches: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embedding_helper = nn.ParameterDict({"pos_embed": nn.Parameter(torch.empty(1, 1 + patches, width))})
        self.rgbt_stem = nn.ModuleDict()

    def placed(self, patches: Tensor) -> Tensor:
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)
        placed: Tensor = tokens + self.pos_embedding_helper["pos_embed"]
        return placed


class _VideoTokens(_Tokens):
    def __init__(self, width: int) -> None:
        super().__init__(width, (SIDE // _VIDEO_PATCH[1]) ** 2)
        # The published name has an index: in front of it stands the repetition of single pictures, which has no weights.
        convolution = nn.Conv3d(3, width, _VIDEO_PATCH, stride=_VIDEO_PATCH, bias=False)
        self.rgbt_stem["proj"] = nn.Sequential(nn.Identity(), convolution)

    def forward(self, clips: Tensor) -> Tensor:
        return self.placed(self.rgbt_stem["proj"](clips).flatten(2).transpose(1, 2))


class _AudioTokens(_Tokens):
    def __init__(self, width: int) -> None:
        rows, columns = ((side - _AUDIO_PATCH) // _AUDIO_STRIDE + 1 for side in (MEL_BANDS, MEL_STEPS))
        super().__init__(width, rows * columns)
        self.rgbt_stem["proj"] = nn.Conv2d(1, width, _AUDIO_PATCH, stride=_AUDIO_STRIDE, bias=False)
        self.rgbt_stem["norm_layer"] = nn.LayerNorm(width)

    def forward(self, spectrograms: Tensor) -> Tensor:
        patches = self.rgbt_stem["proj"](spectrograms).flatten(2).transpose(1, 2)
        return self.placed(self.rgbt_stem["norm_layer"](patches))


class _Trunk(nn.Module):
    """A pre-norm transformer. extra_key: one learnt key and value that every token can attend to."""

    def __init__(self, width: int, depth: int, heads: int, *, norm_first: bool, extra_key: bool) -> None:
        super().__init__()
        self.pre_transformer_layer = nn.Sequential(nn.LayerNorm(width, eps=_EPS) if norm_first else nn.Identity())
        self.blocks = nn.Sequential(*(_Block(width, heads, extra_key) for _ in range(depth)))

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, n, d] -> the same."""
        return self.blocks(self.pre_transformer_layer(tokens))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, extra_key: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, add_bias_kv=extra_key, batch_first=True)
        self.norm_1, self.norm_2 = nn.LayerNorm(width, eps=_EPS), nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        hidden = functional.gelu(self.mlp["fc1"](self.norm_2(tokens)))
        return tokens + self.mlp["fc2"](hidden)  # type: ignore[no-any-return]


def _head(width: int, embedding: int) -> nn.Sequential:
    # The identity stands where the original selects the class token: the projection's name has index 2.
    return nn.Sequential(nn.LayerNorm(width, eps=_EPS), nn.Identity(), nn.Linear(width, embedding, bias=False))


def _audio_scale() -> nn.Sequential:
    scale = nn.Module()
    scale.register_buffer("log_logit_scale", torch.empty(()))
    return nn.Sequential(nn.Identity(), scale)
