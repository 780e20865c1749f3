"""How the towers and the bridge start when nothing is loaded: close to the identity, and predicting nothing."""

from __future__ import annotations

import math

import torch
from torch import nn

from phonofilm.models.bridge import Conditioner
from phonofilm.models.joint import JointDenoiser

GATE = 0.5
BRIDGE = 0.3


@torch.no_grad()
def init_from_scratch(denoiser: JointDenoiser, generator: torch.Generator | None = None) -> None:
    """Initialise both towers and the bridge in place.

    Matrices keep the scale of what passes through them (variance 1/fan-in), biases are 0. What writes to the residual
    stream is smaller: attention and feed-forward outputs by sqrt(2 layers), and the bridge's to 0.3 of its own, so that
    the towers first learn their own track. Modulation starts at no shift, no scale and gates of 0.5, the same for all
    timesteps; the head starts at 0, so the first prediction is 0.
    """
    bridges: list[nn.Linear] = []
    for module in denoiser.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d):
            nn.init.normal_(module.weight, 0.0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
        elif isinstance(module, Conditioner):
            bridges.append(module.inner.o)
    for tower in (denoiser.video, denoiser.audio):
        nn.init.zeros_(tower.time_projection.get_submodule("1").get_parameter("weight"))
        nn.init.zeros_(tower.head.head.weight)
        nn.init.zeros_(tower.head.modulation)
        small = 1 / math.sqrt(2 * len(tower.blocks))
        for block in tower.blocks:
            for name in ("self_attn.o", "cross_attn.o", "ffn.2"):
                block.get_submodule(name).get_parameter("weight").mul_(small)
            modulation = block.get_parameter("modulation")
            nn.init.zeros_(modulation)
            modulation[:, (2, 5)] = GATE
    for output in bridges:
        output.weight.mul_(BRIDGE)
