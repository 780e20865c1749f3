"""A finished checkpoint trained on, on new clips of the world of which half are balls, every fourth caption without its full
stop. Its autoencoders stay as they are.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.audio_vae import DAC
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.hub import PACKAGED_WEIGHTS
from phonofilm.models.saving import save_component
from phonofilm.models.video import WanModel
from phonofilm.nano.world import HELD_OUT_SEED
from phonofilm.training.config.training_config import JointConfig, OptimizerConfig
from phonofilm.training.loop.validation import ValidationLoss, latent_batches
from phonofilm.training.task.interface import Hook
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.latent_dataset import LatentDataset
from recipes.nano.recipe import EXPERTS
from recipes.nano.towers.encode_world import LatentConfig, WorldEncoders, write_latents
from recipes.nano.towers.train_towers import SHARD, train_further

# The first edition's training had seeds 0 to 5199.
NEW_SEED = 100_000
SCENES = ("ball", "face", "ball", "lamp", "ball", "xylophone")
CLASSES: dict[str, Any] = {
    "video_dit": WanModel,
    "video_dit_2": WanModel,
    "audio_dit": WanAudioModel,
    "dual_tower_bridge": DualTowerConditionalBridge,
    "text_encoder": UMT5EncoderModel,
}


@dataclass(frozen=True)
class FurtherConfig:
    """Which clips it goes on with, and how: the experts' last round at a third of its rates, averaged over longer."""

    latents: LatentConfig = field(
        default_factory=lambda: LatentConfig(clips=6000, first_seed=NEW_SEED, scenes=SCENES, bare=4)
    )
    held_out: int = 64
    validate_every: int = 500
    training: JointConfig = field(
        default_factory=lambda: EXPERTS.model_copy(
            update={
                "optimizer": OptimizerConfig(name="muon", lr=3e-4, muon_lr=0.004, warmup=50),
                "budget_seconds": 4500,
                "ema_decay": 0.999,
                "seed": 3,
                "checkpoint_every": 200,
            }
        )
    )

    def within(self, minutes: float) -> FurtherConfig:
        """The same in so many minutes of training."""
        return replace(self, training=self.training.model_copy(update={"budget_seconds": 60 * minutes}))


def train_on(checkpoint: str, run: Path, config: FurtherConfig) -> Path | None:
    """Go on with `checkpoint` (nano, or a folder like it) in the folder `run`: RUN/checkpoint, None if interrupted.

    A run that was stopped goes on. A student beside the weights is not taken along: it learnt from another teacher.
    Raises InputError for a checkpoint that is not there, or lies in `run`.
    """
    source = PACKAGED_WEIGHTS if checkpoint == "nano" else Path(checkpoint)
    if not (source / "video_dit_2").is_dir():
        raise InputError(f"{source} is no checkpoint of two experts; give nano or the folder of one like it")
    if source.resolve().is_relative_to(run.resolve()):
        raise InputError(f"{source} lies in the run's folder {run}, which has latents of its own; use another folder")
    finished = run / "checkpoint"
    if finished.exists():
        return finished
    encoders = WorldEncoders(
        AutoencoderKLWan.from_pretrained(source / "video_vae"),
        DAC.from_pretrained(source / "audio_vae"),
        PreTrainedTokenizerFast.from_pretrained(source / "tokenizer"),
    )
    latents = write_latents(config.latents, encoders, run / "latents")
    seen = replace(config.latents, clips=config.held_out, first_seed=HELD_OUT_SEED, scenes=())
    held_out = write_latents(seen, encoders, run / "latents_held")

    def hooks(model: JointModel, training: JointConfig) -> tuple[Hook, ...]:
        boundary, batches = training.objective.timesteps.boundary_ratio, latent_batches(LatentDataset(held_out))
        return (ValidationLoss(model, batches, boundary, every=config.validate_every),)

    networks = train_further(config.training, source, latents, run / "towers_run", hooks)
    return None if networks is None else _put_in(source, networks, finished)


def _put_in(source: Path, networks: Path, finished: Path) -> Path:
    """The folder of `source` with these networks for its own, in bfloat16 as they are shipped."""
    with replacing(finished) as temporary:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(*CLASSES, STUDENT_FILE, "README.md"))
        for name, kind in CLASSES.items():
            save_component(temporary / name, kind.from_pretrained(networks / name).to(torch.bfloat16), SHARD)
    return finished
