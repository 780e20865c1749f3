"""LAION-CLAP (Wu et al., 2023) with feature fusion: the network of transformers, with the weights of the original's file.

The text tower's norm has RoBERTa's epsilon (1e-5), as there; transformers' own conversion of CLAP has 1e-12.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SAMPLING_RATE = 48_000
TEXT_TOKENS = 77
_QKV = re.compile(r"(.*)\.attention\.self\.qkv\.(weight|bias)")
# Names of the original and of transformers, applied in this order.
_RENAMED = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^(text|audio)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(text|audio)_projection\.2\.", r"\1_projection.linear2."),
    (r"^audio_model\.audio_encoder\.bn0\.", "audio_model.audio_encoder.batch_norm."),
    (r"(\.blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(\.blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(\.blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
    (r"(\.blocks\.\d+)\.attn\.", r"\1.attention.self."),
    (r"(\.blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(\.blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
)


@dataclass(frozen=True)
class ClapSize:
    """The text tower's size in the released model; tests take a smaller one."""

    vocabulary: int = 50_265
    text_depth: int = 12


class Clap(nn.Module):
    """Sounds and texts as unit vectors of 512 numbers."""

    def __init__(self, size: ClapSize | None = None) -> None:
        from transformers import ClapConfig, ClapModel

        super().__init__()
        size = size or ClapSize()
        config = ClapConfig(
            audio_config={"enable_fusion": True, "fusion_type": "aff_2d"},
            text_config={
                "vocab_size": size.vocabulary,
                "num_hidden_layers": size.text_depth,
                "layer_norm_eps": 1e-5,
            },
        )
        self.model: Any = ClapModel(config)

    def embed_sound(self, spectrograms: Tensor, longer: bool) -> Tensor:
        """Decibels in mel bands [b, 4, frames, 64] -> [b, 512].

        longer: the clip exceeds 10 s, and pictures 1 to 3 are parts of it; otherwise all four are the same.
        """
        flags = torch.full((len(spectrograms), 1), longer, device=spectrograms.device)
        pooled = self.model.audio_model(input_features=spectrograms, is_longer=flags).pooler_output
        return functional.normalize(self.model.audio_projection(pooled), dim=-1)

    def embed_text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Token ids and which of them count, [b, 77] -> [b, 512]."""
        pooled = self.model.text_model(input_ids=tokens, attention_mask=mask).pooler_output
        return functional.normalize(self.model.text_projection(pooled), dim=-1)


def clap_tensors(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of 630k-audioset-fusion-best.pt under the names of `Clap`; what that does not have is kept as it is."""
    found: dict[str, Tensor] = {}
    for name, tensor in published.items():
        name = name.removeprefix("module.")
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if (match := _QKV.fullmatch(name)) is not None:
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            found |= {f"model.{match[1]}.attention.self.{part}.{match[2]}": piece for part, piece in parts}
        else:
            found[f"model.{name}"] = tensor
    positions = found.get("model.text_model.embeddings.position_embeddings.weight")
    if positions is not None:
        # Not in every version of the file, and no weights: the numbers of the positions.
        found["model.text_model.embeddings.position_ids"] = torch.arange(len(positions))[None]
        found["model.text_model.embeddings.token_type_ids"] = torch.zeros(1, len(positions), dtype=torch.long)
    return found
