"""The towers' stages of the recipe: one video tower on all sigmas, then two experts from it, then the checkpoint folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import UMT5EncoderModel

from phonofilm.files import replacing
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.saving import save_component
from phonofilm.models.video import WanModel
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.training.checkpointing.run_folder import checkpoint_folders
from phonofilm.training.config.training_config import JointConfig, TimestepConfig
from phonofilm.training.task.initialization import init_from_scratch
from phonofilm.training.task.interface import Hook
from phonofilm.training.task.joint_task import JointModel, clone_expert, train_joint
from phonofilm.training.task.latent_dataset import LatentDataset

SHARD = 10**9
# The hooks of a training; made once the model exists.
HooksFor = Callable[[JointModel, JointConfig], tuple[Hook, ...]]


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of the two towers and the bridge between them: heads are `head_dim` wide, the ffn four times the tower."""

    video_dim: int = 128
    audio_dim: int = 96
    layers: int = 5
    head_dim: int = 32
    freq_dim: int = 64
    audio_rate: float = 50.0


def build_denoiser(towers: TowerConfig, video_channels: int, audio_channels: int, text_dim: int) -> JointDenoiser:
    """Fresh towers and bridge, initialised for training from nothing."""
    shared: dict[str, Any] = {"text_dim": text_dim, "freq_dim": towers.freq_dim, "eps": 1e-6}
    shared["num_layers"] = towers.layers
    video = WanModel(
        dim=towers.video_dim,
        in_dim=2 * video_channels + 4,
        ffn_dim=4 * towers.video_dim,
        out_dim=video_channels,
        patch_size=(1, 2, 2),
        num_heads=towers.video_dim // towers.head_dim,
        **shared,
    )
    audio = WanAudioModel(
        dim=towers.audio_dim,
        in_dim=audio_channels,
        ffn_dim=4 * towers.audio_dim,
        out_dim=audio_channels,
        patch_size=(1,),
        num_heads=towers.audio_dim // towers.head_dim,
        vae_type="dac",
        **shared,
    )
    bridge = DualTowerConditionalBridge(
        visual_layers=towers.layers,
        audio_layers=towers.layers,
        visual_hidden_dim=towers.video_dim,
        audio_hidden_dim=towers.audio_dim,
        audio_fps=towers.audio_rate,
        head_dim=towers.head_dim,
        interaction_strategy="full",
        apply_cross_rope=True,
    )
    return JointDenoiser(video, audio, bridge)


def train_towers(
    towers: TowerConfig, config: JointConfig, latents: Path, text: Path, run_dir: Path, hooks: HooksFor | None = None
) -> Path | None:
    """Train one video tower with audio tower, bridge and text encoder; the folder of networks, None if interrupted."""
    done = run_dir / "networks"
    if done.exists():
        return done
    dataset = LatentDataset(latents)
    encoder = UMT5EncoderModel.from_pretrained(text)
    channels = dataset.arrays["video"].shape[1], dataset.arrays["audio"].shape[1]
    denoiser = build_denoiser(towers, *channels, encoder.config.d_model)
    init_from_scratch(denoiser, torch.Generator().manual_seed(config.seed))
    return _train(JointModel(denoiser, None, encoder, dataset.meta.text_length), dataset, config, run_dir, hooks)


def train_experts(
    config: JointConfig, networks: Path, latents: Path, run_dir: Path, hooks: HooksFor | None = None
) -> Path | None:
    """Split the trained video tower into two experts and go on with both in turn; as `train_towers` returns."""
    done = run_dir / "networks"
    if done.exists():
        return done
    dataset = LatentDataset(latents)
    denoiser, encoder = _opened(networks)
    model = JointModel(denoiser, clone_expert(denoiser), encoder, dataset.meta.text_length)
    return _train(model, dataset, config, run_dir, hooks)


def train_further(
    config: JointConfig, checkpoint: Path, latents: Path, run_dir: Path, hooks: HooksFor | None = None
) -> Path | None:
    """Go on with both experts of a finished checkpoint, whatever made it; as `train_towers` returns."""
    done = run_dir / "networks"
    if done.exists():
        return done
    dataset = LatentDataset(latents)
    high, encoder = _opened(checkpoint)
    low = JointDenoiser(WanModel.from_pretrained(checkpoint / "video_dit_2"), high.audio, high.bridge)
    model = JointModel(high, low, encoder, dataset.meta.text_length).float()
    return _train(model, dataset, config, run_dir, hooks)


def _opened(folder: Path) -> tuple[JointDenoiser, UMT5EncoderModel]:
    """The first video tower with the audio tower and the bridge of a folder of networks, and its text encoder."""
    denoiser = JointDenoiser(
        WanModel.from_pretrained(folder / "video_dit"),
        WanAudioModel.from_pretrained(folder / "audio_dit"),
        DualTowerConditionalBridge.from_pretrained(folder / "dual_tower_bridge"),
    )
    return denoiser, UMT5EncoderModel.from_pretrained(folder / "text_encoder")


def package(
    parts: dict[str, nn.Module],
    tokenizer: Any,
    config: JointConfig,
    defaults: dict[str, Any],
    folder: Path,
    max_shard_size: int,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write the checkpoint folder of the released layout, weights in `dtype`. Schedule and boundary are the training's.

    No file of weights is larger than `max_shard_size` bytes, unless a single tensor is.
    """
    timesteps = config.objective.timesteps
    modules: dict[str, Any] = {name: module.to(dtype) for name, module in parts.items()}
    pipeline = MovaPipeline(
        tokenizer=tokenizer,
        scheduler=scheduler_for(timesteps),
        boundary_ratio=timesteps.boundary_ratio,
        defaults=defaults,
        **modules,
    )
    pipeline.save_pretrained(folder, max_shard_size=max_shard_size, overwrite=True)
    return folder


def scheduler_for(timesteps: TimestepConfig) -> FlowMatchPairScheduler:
    """The schedule that sampling takes from a training's timesteps."""
    result: FlowMatchPairScheduler = FlowMatchPairScheduler(
        shift=timesteps.video_shift, sigma_min=timesteps.sigma_min, extra_one_step=timesteps.extra_one_step
    )
    return result


def _train(
    model: JointModel, dataset: LatentDataset, config: JointConfig, run_dir: Path, hooks: HooksFor | None
) -> Path | None:
    resume = bool(checkpoint_folders(run_dir))
    end = train_joint(model, dataset, config, run_dir, hooks(model, config) if hooks else (), resume=resume)
    if end.reason != "finished":
        return None
    networks: dict[str, nn.Module] = {
        "video_dit": model.high.video,
        "audio_dit": model.high.audio,
        "dual_tower_bridge": model.high.bridge,
    }
    if model.text is not None:
        networks["text_encoder"] = model.text
    if model.low is not None:
        networks["video_dit_2"] = model.low.video
    finished = run_dir / "networks"
    with replacing(finished) as temporary:
        temporary.mkdir()
        for name, module in networks.items():
            save_component(temporary / name, module, SHARD)
    return finished
