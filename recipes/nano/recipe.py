"""The embedded model's recipe as values: every number of an edition, and where a run of it keeps what its stages make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phonofilm.training.config.training_config import JointConfig, ObjectiveConfig, OptimizerConfig, TimestepConfig
from recipes.nano.audio_vae.train_audio_decoder import AUDIO_DECODER
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig
from recipes.nano.student import StudentConfig
from recipes.nano.towers.encode_world import LatentConfig
from recipes.nano.towers.train_towers import TowerConfig
from recipes.nano.video_vae.train_video_vae import VideoVaeConfig
from recipes.nano.world_bank import WorldConfig

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
    """Every number of an edition of the embedded model: those here are the first one's.

    The card says where the making of the shipped weights differed. With a `world` all stages learn from the same clips,
    rendered once by many processes; without one each renders its own, and `student` is left to `phonofilm train`.
    """

    video_vae: VideoVaeConfig = field(default_factory=VideoVaeConfig)
    audio_vae: AudioVaeConfig = field(default_factory=AudioVaeConfig)
    audio_decoder: AudioVaeConfig = AUDIO_DECODER
    text: TextConfig = field(default_factory=TextConfig)
    latents: LatentConfig = field(default_factory=LatentConfig)
    towers: TowerConfig = field(default_factory=TowerConfig)
    world: WorldConfig | None = None
    student: StudentConfig | None = None
    samples: bool = True  # clips of held-out prompts while the towers train
    shard_bytes: int = 10**9
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
    def world(self) -> Path:
        return self.folder / "world"

    @property
    def student(self) -> Path:
        return self.folder / "student_run"

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
