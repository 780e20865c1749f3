"""A transformer layer that sums a sequence up in one learnt token: what both of Synchformer's towers end in."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassTokenLayer(nn.TransformerEncoderLayer):
    """[b, n, width] -> [b, width]: the token put in front, after it attended to the others."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(
            width,
            heads,
            dim_feedforward=4 * width,
            dropout=0.0,
            activation=nn.GELU(),
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))

    def summarise(self, tokens: Tensor) -> Tensor:
        out: Tensor = self(torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1))
        return out[:, 0]
