"""Synchformer's audio tower: the Audio Spectrogram Transformer (Gong et al., 2021) on segments of 0.64 s.

b: segments, n: 2 + 12 x 6 tokens, d: width. Transformers has the same network under other tensor names.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from phonofilm.evaluation.networks.class_token_layer import ClassTokenLayer

MEL_BANDS = 128
SEGMENT_STEPS = 66  # of 10 ms
PATCH = 16
STRIDE = 10
ROWS = (MEL_BANDS - PATCH) // STRIDE + 1
COLUMNS = (SEGMENT_STEPS - PATCH) // STRIDE + 1
_SPECIAL = 2  # the class token and the one for distillation
_EPS = 1e-12


class SpectrogramTransformer(nn.Module):
    """Segments of 66 steps -> 6 tokens each."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.ast = _Transformer(width, depth, heads)
        self.freq_attn_agg = ClassTokenLayer(width, heads)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """[b, 128, 66] -> [b, 6, d]: one token for every column of patches, over all frequencies."""
        patches = self.ast(spectrograms)[:, _SPECIAL:].unflatten(1, (ROWS, COLUMNS))
        columns = patches.transpose(1, 2).flatten(0, 1)
        summaries: Tensor = self.freq_attn_agg.summarise(columns).unflatten(0, (-1, COLUMNS))
        return summaries


class _Transformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(width)
        self.encoder = nn.ModuleDict({"layer": nn.Sequential(*(_Layer(width, heads) for _ in range(depth)))})
        self.layernorm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, spectrograms: Tensor) -> Tensor:
        return self.layernorm(self.encoder["layer"](self.embeddings(spectrograms)))  # type: ignore[no-any-return]


class _Embeddings(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.distillation_token = nn.Parameter(torch.empty(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.empty(1, _SPECIAL + ROWS * COLUMNS, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, width, PATCH, stride=STRIDE)})

    def forward(self, spectrograms: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](spectrograms[:, None]).flatten(2).transpose(1, 2)
        special = torch.cat([self.cls_token, self.distillation_token], 1).expand(len(patches), -1, -1)
        return torch.cat([special, patches], 1) + self.position_embeddings


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"attention": _SelfAttention(width, heads), "output": _dense(width, width)})
        self.intermediate = _dense(width, 4 * width)
        self.output = _dense(4 * width, width)
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(width, eps=_EPS), nn.LayerNorm(width, eps=_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        attended = self.attention["attention"](self.layernorm_before(tokens))
        tokens = tokens + self.attention["output"](attended)
        hidden = functional.gelu(self.intermediate(self.layernorm_after(tokens)))
        return tokens + self.output(hidden)  # type: ignore[no-any-return]


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            part(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _dense(inner: int, outer: int) -> nn.Sequential:
    """One linear layer under the name that the published files have for it."""
    return nn.Sequential(OrderedDict(dense=nn.Linear(inner, outer)))
