"""The embedded model's whole recipe, stage by stage, from nothing to a checkpoint folder. Each stage lives in its own file.

A stage whose result stands in the run's folder is not run again, and an interrupted one goes on from its checkpoint, so
calling `run_recipe` again always continues where the last call ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from phonofilm.errors import InputError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.audio_vae import DAC
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.video import WanModel
from phonofilm.nano.world import HELD_OUT_SEED, make_clip
from phonofilm.training.config.training_config import JointConfig, ObjectiveConfig, OptimizerConfig, TimestepConfig
from phonofilm.training.loop.previews import PreviewComponents, SampleHook
from phonofilm.training.loop.validation import ValidationLoss, latent_batches
from phonofilm.training.task.interface import Hook
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.latent_dataset import LatentDataset
from recipes.nano.audio_vae.train_audio_decoder import AUDIO_DECODER, train_audio_decoder
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig, train_audio_vae
from recipes.nano.text_encoder import build_text_encoder, make_tokenizer
from recipes.nano.towers.encode_world import LatentConfig, WorldEncoders, write_latents
from recipes.nano.towers.held_out_previews import held_out_previews
from recipes.nano.towers.train_towers import TowerConfig, package, scheduler_for, train_experts, train_towers
from recipes.nano.video_vae.train_video_vae import VideoVaeConfig, train_video_vae

logger = logging.getLogger(__name__)

TIMESTEPS = TimestepConfig(mode="independent", video_shift=3.0, audio_shift=3.0)
OBJECTIVE = ObjectiveConfig(
    timesteps=TIMESTEPS,
    hold_video=0.08,
    hold_audio=0.08,
    caption_dropout=0.1,
    first_frame_dropout=0.3,
    bridge_dropout=0.08,
    unconditional_dropout=0.05,
)
JOINT = JointConfig(
    objective=OBJECTIVE,
    optimizer=OptimizerConfig(name="muon", lr=1.5e-3, warmup=100),
    budget_seconds=3300,
    ema_decay=0.998,
    precision="auto",
    log_every=50,
    checkpoint_every=500,
)
EXPERTS = JointConfig(
    # Half without a first frame: text alone is the harder thing to learn.
    objective=OBJECTIVE.model_copy(update={"first_frame_dropout": 0.5}),
    optimizer=OptimizerConfig(name="muon", lr=1e-3, muon_lr=0.012, warmup=100),
    budget_seconds=9100,
    ema_decay=0.998,
    precision="auto",
    log_every=50,
    checkpoint_every=500,
    experts="alternate",
)


@dataclass(frozen=True)
class TextConfig:
    """The tokenizer's captions and the text encoder's sizes."""

    captions: int = 3000
    width: int = 128
    layers: int = 2
    heads: int = 4


@dataclass(frozen=True)
class Recipe:
    """Every number of the embedded model. Its card says where the making of the shipped weights differed."""

    video_vae: VideoVaeConfig = field(default_factory=VideoVaeConfig)
    audio_vae: AudioVaeConfig = field(default_factory=AudioVaeConfig)
    audio_decoder: AudioVaeConfig = AUDIO_DECODER
    text: TextConfig = field(default_factory=TextConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)
    towers: TowerConfig = field(default_factory=TowerConfig)
    held_out: int = 64  # clips for validation while the towers train
    validate_every: int = 1000
    sample_every: int = 2000
    joint: JointConfig = field(default_factory=lambda: JOINT)
    experts: JointConfig = field(default_factory=lambda: EXPERTS)
    defaults: dict[str, Any] = field(
        default_factory=lambda: {
            "height": 64,
            "width": 64,
            "num_frames": 49,
            "num_inference_steps": 8,
            "guidance_scale": 3.0,
            "modality_scale": 3.0,
            "negative_prompt": "",
        }
    )


@dataclass(frozen=True)
class RecipeRun:
    """A recipe, the folder its stages write to, and the device of the autoencoders' training."""

    recipe: Recipe
    folder: Path
    device: str = "cpu"

    @property
    def video_vae(self) -> Path:
        return self.folder / "video_vae_run" / "video_vae"

    @property
    def audio_vae(self) -> Path:
        return self.folder / "audio_vae_run" / "audio_vae"

    @property
    def audio_decoder(self) -> Path:
        return self.folder / "audio_decoder_run" / "audio_vae"

    @property
    def text(self) -> Path:
        return self.folder / "text"

    @property
    def latents(self) -> Path:
        return self.folder / "latents"

    @property
    def held_out(self) -> Path:
        return self.folder / "latents_held"

    @property
    def joint(self) -> Path:
        return self.folder / "joint_run"

    @property
    def experts(self) -> Path:
        return self.folder / "experts_run"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"


def run_recipe(run: RecipeRun, stages: Sequence[str] = ()) -> Path | None:
    """Run the named stages (all, in order, when none is named); the checkpoint's folder, None if it is not there yet.

    Raises InputError for an unknown stage, or when a stage's predecessor has not finished.
    """
    steps = stage_functions()
    if unknown := [name for name in stages if name not in steps]:
        raise InputError(f"unknown stage {', '.join(unknown)}; the stages are {', '.join(steps)}")
    for name in stages or steps:
        logger.info("stage %s", name)
        steps[name](run)
    return run.checkpoint if run.checkpoint.exists() else None


def stage_functions() -> dict[str, Callable[[RecipeRun], None]]:
    """The stages by name, in their order."""
    return {
        "video-vae": _video_vae,
        "audio-vae": _audio_vae,
        "audio-decoder": _audio_decoder,
        "text": _text,
        "latents": _latents,
        "joint": _joint,
        "experts": _experts,
        "package": _package,
    }


def _video_vae(run: RecipeRun) -> None:
    train_video_vae(run.recipe.video_vae, run.video_vae.parent, device=run.device)


def _audio_vae(run: RecipeRun) -> None:
    if not (run.audio_vae / "metrics.json").exists():
        train_audio_vae(run.recipe.audio_vae, run.audio_vae.parent, device=run.device)


def _audio_decoder(run: RecipeRun) -> None:
    if not (run.audio_decoder / "metrics.json").exists():
        start = _finished(run.audio_vae, "audio-vae")
        train_audio_decoder(run.recipe.audio_decoder, start, run.audio_decoder.parent, device=run.device)


def _text(run: RecipeRun) -> None:
    config = run.recipe.text
    if (run.text / "text_encoder" / "config.json").exists():
        return
    tokenizer = make_tokenizer(make_clip(seed, size=8, num_frames=1).caption for seed in range(config.captions))
    tokenizer.save_pretrained(run.text / "tokenizer")
    encoder = build_text_encoder(len(tokenizer), width=config.width, layers=config.layers, heads=config.heads)
    encoder.save_pretrained(run.text / "text_encoder")


def _latents(run: RecipeRun) -> None:
    encoders = WorldEncoders(
        AutoencoderKLWan.from_pretrained(_finished(run.video_vae, "video-vae")).to(run.device),
        DAC.from_pretrained(_finished(run.audio_vae, "audio-vae")).to(run.device),
        PreTrainedTokenizerFast.from_pretrained(_finished(run.text / "tokenizer", "text")),
    )
    write_latents(run.recipe.latents, encoders, run.latents)
    held_out = replace(run.recipe.latents, clips=run.recipe.held_out, first_seed=HELD_OUT_SEED)
    write_latents(held_out, encoders, run.held_out)


def _joint(run: RecipeRun) -> None:
    text = _finished(run.text / "text_encoder", "text")
    latents = _finished(run.latents, "latents")
    train_towers(run.recipe.towers, run.recipe.joint, latents, text, run.joint, partial(_validation_and_samples, run))


def _experts(run: RecipeRun) -> None:
    networks = _finished(run.joint / "networks", "joint")
    latents = _finished(run.latents, "latents")
    train_experts(run.recipe.experts, networks, latents, run.experts, partial(_validation_and_samples, run))


def _validation_and_samples(run: RecipeRun, model: JointModel, config: JointConfig) -> tuple[Hook, ...]:
    """Validation losses and samples on held-out clips while the towers train."""
    timesteps, defaults = config.objective.timesteps, run.recipe.defaults
    held_out = latent_batches(LatentDataset(run.held_out))
    validation = ValidationLoss(model, held_out, timesteps.boundary_ratio, every=run.recipe.validate_every)
    studio = PreviewComponents(
        AutoencoderKLWan.from_pretrained(run.video_vae),
        DAC.from_pretrained(_finished(run.audio_decoder, "audio-decoder")),
        scheduler_for(timesteps),
        timesteps.boundary_ratio,
        defaults,
        tokenizer=PreTrainedTokenizerFast.from_pretrained(run.text / "tokenizer"),
    )
    previews = held_out_previews(defaults["height"], defaults["num_frames"])
    samples = SampleHook(model, studio, previews, every=run.recipe.sample_every)
    return validation, samples


def _package(run: RecipeRun) -> None:
    networks = _finished(run.experts / "networks", "experts")
    parts: dict[str, torch.nn.Module] = {
        "video_vae": AutoencoderKLWan.from_pretrained(run.video_vae),
        "audio_vae": DAC.from_pretrained(_finished(run.audio_decoder, "audio-decoder")),
        "text_encoder": UMT5EncoderModel.from_pretrained(networks / "text_encoder"),
        "video_dit": WanModel.from_pretrained(networks / "video_dit"),
        "video_dit_2": WanModel.from_pretrained(networks / "video_dit_2"),
        "audio_dit": WanAudioModel.from_pretrained(networks / "audio_dit"),
        "dual_tower_bridge": DualTowerConditionalBridge.from_pretrained(networks / "dual_tower_bridge"),
    }
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run.text / "tokenizer")
    package(parts, tokenizer, run.recipe.experts, run.recipe.defaults, run.checkpoint)


def _finished(path: Path, stage: str) -> Path:
    if not path.exists():
        raise InputError(f"{path} is not there yet; run the stage {stage} first (or let it finish)")
    return path
