"""The two released checkpoints' sizes, which they share: enough to plan for them before they are on this machine."""

from __future__ import annotations

from typing import Any

import torch

from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.video import WanModel

TOWERS: dict[str, Any] = {"text_dim": 4096, "freq_dim": 256, "eps": 1e-6}
EXPERT_COUNT = 2
TEXT_ENCODER_PARAMETERS = 5_680_910_336
TEXT_WIDTH = 4096
TEXT_BLOCK_PARAMETERS = 192_948_224
TEXT_TENSOR_PARAMETERS = TEXT_WIDTH * 10_240
VIDEO_VAE_PARAMETERS = 126_892_531
AUDIO_VAE_PARAMETERS = 371_539_137


def released_denoiser() -> JointDenoiser:
    """One video expert, the audio tower and the bridge, on the meta device: shapes without memory."""
    with torch.device("meta"):
        return JointDenoiser(
            WanModel(
                dim=5120,
                in_dim=36,
                ffn_dim=13824,
                out_dim=16,
                patch_size=(1, 2, 2),
                num_heads=40,
                num_layers=40,
                **TOWERS,
            ),
            WanAudioModel(
                dim=1536,
                in_dim=128,
                ffn_dim=8960,
                out_dim=128,
                patch_size=(1,),
                num_heads=12,
                num_layers=30,
                vae_type="dac",
                **TOWERS,
            ),
            DualTowerConditionalBridge(
                visual_layers=40,
                audio_layers=30,
                visual_hidden_dim=5120,
                audio_hidden_dim=1536,
                audio_fps=50.0,
                head_dim=128,
                interaction_strategy="full",
                apply_cross_rope=True,
            ),
        )
