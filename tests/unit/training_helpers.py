"""A joint model of a few thousand parameters and a folder of made-up latents, for the training tests."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import UMT5Config, UMT5EncoderModel

from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.video import WanModel
from phonofilm.training.task.initialization import init_from_scratch
from phonofilm.training.task.joint_task import JointModel, clone_expert
from phonofilm.training.task.latent_dataset import LatentDataset, LatentMeta, LatentWriter

VIDEO = (4, 3, 4, 4)
AUDIO = (6, 10)


def tiny_denoiser(seed: int = 0) -> JointDenoiser:
    torch.manual_seed(seed)
    tower = {"text_dim": 16, "freq_dim": 16, "eps": 1e-6, "num_layers": 2, "num_heads": 1}
    video = WanModel(dim=32, in_dim=12, ffn_dim=64, out_dim=4, patch_size=(1, 2, 2), **tower)
    audio = WanAudioModel(dim=32, in_dim=6, ffn_dim=64, out_dim=6, patch_size=(1,), vae_type="dac", **tower)
    bridge = DualTowerConditionalBridge(
        visual_layers=2,
        audio_layers=2,
        visual_hidden_dim=32,
        audio_hidden_dim=32,
        audio_fps=50.0,
        head_dim=32,
        interaction_strategy="full",
        apply_cross_rope=True,
    )
    denoiser = JointDenoiser(video, audio, bridge)
    init_from_scratch(denoiser, torch.Generator().manual_seed(seed))
    return denoiser


def tiny_model(seed: int = 0, two_experts: bool = False) -> JointModel:
    denoiser = tiny_denoiser(seed)
    config = UMT5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    text = UMT5EncoderModel(config)
    return JointModel(denoiser, clone_expert(denoiser) if two_experts else None, text)


def write_latents(folder: Path, count: int = 8, silent: tuple[int, ...] = ()) -> LatentDataset:
    generator = torch.Generator().manual_seed(7)
    has_audio = torch.tensor([row not in silent for row in range(count)])
    writer = LatentWriter(folder, count, VIDEO, AUDIO, 12, LatentMeta(frame_rate=24.0, text_length=20))
    prompts = [[2 + (row * 5 + place) % 37 for place in range(3 + row % 4)] + [1] for row in range(count)]
    writer.put(
        0,
        torch.randn(count, *VIDEO, generator=generator),
        torch.randn(count, *VIDEO, generator=generator),
        torch.randn(count, *AUDIO, generator=generator),
        prompts,
        has_audio,
    )
    writer.close(torch.randn(VIDEO, generator=generator), [1])
    return LatentDataset(folder)
