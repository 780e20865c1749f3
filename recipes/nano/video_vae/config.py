"""The small video autoencoder's recipe as values, its network, and the start from which it learns fast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from torch import nn


@dataclass(frozen=True)
class Phase:
    """A part of the curriculum: clips of `frames` frames, `batch` at a time, for `share` of the run.

    `rate` multiplies the learning rates: a batch of few different clips bears smaller steps than one of many pictures.
    """

    share: float
    frames: int
    batch: int
    rate: float = 1.0


@dataclass(frozen=True)
class VideoVaeConfig:
    """The whole recipe. Time, not steps, drives curriculum and learning rate, so that a slow machine ends on time."""

    size: int = 64
    num_frames: int = 49
    base_dim: int = 16
    decoder_base_dim: int = 24
    latent_channels: int = 16
    budget_seconds: float = 3000.0
    max_steps: int | None = None  # stop and save earlier; the schedule then runs over these steps
    phases: tuple[Phase, ...] = (
        Phase(0.10, 1, 24),
        Phase(0.10, 5, 6, 0.6),
        Phase(0.52, 17, 2, 0.3),
        Phase(0.28, 49, 2, 0.3),
    )
    bank_clips: int = 4000
    statistics_clips: int = 240
    muon_rate: float = 0.025
    adamw_rate: float = 2e-3
    kl_weight: float = 3e-5
    busy_weight: float = 4.0
    condition_share: float = 0.12
    clip_norm: float = 10.0
    autocast: bool | None = None  # None: where bfloat16 is fast
    compile: bool = False  # fuses the norms: 1.6 times faster on CPUs, needs a C++ compiler
    threads: int | None = None
    seed: int = 0
    measure_seconds: float = 240.0
    save_seconds: float = 120.0
    held_out: int = 12


def build_video_vae(config: VideoVaeConfig) -> AutoencoderKLWan:
    """Three levels on 2x2 patches: the released 8x8x4 compression without any full-resolution convolution."""
    torch.manual_seed(config.seed)
    vae = AutoencoderKLWan(
        base_dim=config.base_dim,
        decoder_base_dim=config.decoder_base_dim,
        z_dim=config.latent_channels,
        dim_mult=[1, 2, 4],
        temperal_downsample=[True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=8,
        latents_mean=[0.0] * config.latent_channels,
        latents_std=[1.0] * config.latent_channels,
    )
    inflate(vae)
    return vae


@torch.no_grad()
def inflate(vae: AutoencoderKLWan) -> None:
    """Start as a picture autoencoder: only the last temporal tap is not zero, time is kept or repeated, noise is small."""
    for name, module in vae.named_modules():
        if not isinstance(module, nn.Conv3d):
            continue
        taps = module.weight.shape[2]
        module.weight.zero_()
        if module.bias is not None:
            module.bias.zero_()
        if name.endswith("time_conv"):
            inputs = module.weight.shape[1]
            for copy in range(module.weight.shape[0] // inputs):
                nn.init.eye_(module.weight[copy * inputs : (copy + 1) * inputs, :, -1, 0, 0])
            continue
        fan_in = module.weight[:, :, -1].numel() // module.weight.shape[0]
        gain = 0.5 if name.endswith("conv2") else 1.0
        nn.init.normal_(module.weight[:, :, taps - 1], std=gain / math.sqrt(fan_in))
    latent = vae.config.z_dim
    vae.quant_conv.weight[latent:] *= 0.01
    vae.quant_conv.bias[latent:] = -6.0
