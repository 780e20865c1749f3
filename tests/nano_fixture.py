"""An untrained pipeline of the embedded model's shape, far smaller: for tests of whatever runs a pipeline end to end."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from phonofilm.models.audio import WanAudioModel
from phonofilm.models.audio_vae import DAC
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.video import WanModel
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from tests.conftest import GOLDENS

LATENT_CHANNELS = 16
TEXT_DIM = 32


def tiny_nano_pipeline(size: int = 64, num_frames: int = 49, seed: int = 0) -> MovaPipeline:
    """Random weights, the same for the same seed; 0.4 million of them. One joint forward takes about 20 ms.

    Every class, factor and rate is the embedded model's: 8x8x4 video latents, 16 kHz sound in hops of 320, two experts.
    """
    torch.manual_seed(seed)
    tower = {"ffn_dim": 48, "out_dim": LATENT_CHANNELS, "text_dim": TEXT_DIM, "freq_dim": 32, "eps": 1e-6}
    video = tower | {"dim": 48, "in_dim": 36, "num_heads": 2, "num_layers": 2, "patch_size": (1, 2, 2)}
    audio = tower | {"dim": 24, "in_dim": LATENT_CHANNELS, "num_heads": 1, "num_layers": 2, "patch_size": (1,)}
    bridge = DualTowerConditionalBridge(
        visual_layers=2,
        audio_layers=2,
        visual_hidden_dim=48,
        audio_hidden_dim=24,
        audio_fps=50.0,
        head_dim=24,
        interaction_strategy="full",
        apply_cross_rope=True,
    )
    modules: dict[str, Any] = {
        "video_vae": tiny_video_vae(),
        "audio_vae": tiny_audio_vae(),
        "text_encoder": UMT5EncoderModel(
            UMT5Config(vocab_size=300, d_model=TEXT_DIM, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        ),
        "video_dit": WanModel(**video),
        "video_dit_2": WanModel(**video),
        "audio_dit": WanAudioModel(**audio, vae_type="dac"),
        "dual_tower_bridge": bridge,
    }
    for module in modules.values():
        module.eval().requires_grad_(False)
    defaults = {"height": size, "width": size, "num_frames": num_frames, "num_inference_steps": 2}
    pipeline = MovaPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(GOLDENS / "basic" / "checkpoint" / "tokenizer"),
        scheduler=FlowMatchPairScheduler(shift=3.0),
        defaults=defaults | {"guidance_scale": 3.0, "negative_prompt": ""},
        **modules,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_video_vae() -> AutoencoderKLWan:
    """Three levels on 2x2 patches: the embedded model's layout at base width 4."""
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )


def tiny_audio_vae() -> DAC:
    """16 kHz in hops of 320, width 2."""
    return DAC(
        encoder_dim=2,
        encoder_rates=(4, 4, 4, 5),
        latent_dim=LATENT_CHANNELS,
        decoder_dim=16,
        decoder_rates=(5, 4, 4, 4),
        sample_rate=16000,
    )
