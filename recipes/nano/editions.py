"""The editions of the embedded model: the first, which the package ships, for a CPU; the second, larger, for minutes of a GPU."""

from __future__ import annotations

from dataclasses import replace

from phonofilm.errors import InputError
from recipes.nano.audio_vae.train_audio_decoder import AUDIO_DECODER
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig
from recipes.nano.recipe import EXPERTS, JOINT, Recipe
from recipes.nano.student import StudentConfig
from recipes.nano.towers.encode_world import LatentConfig
from recipes.nano.towers.train_towers import TowerConfig
from recipes.nano.video_vae.config import Phase, VideoVaeConfig
from recipes.nano.world_bank import WorldConfig

MINUTES = 8.0
# Of the minutes. What is left over is for starting, the first clips of the world, the latents and the files.
VIDEO_VAE, AUDIO_VAE, AUDIO_DECODER_SHARE, TOWERS, EXPERTS_SHARE, STUDENT = 0.35, 0.12, 0.06, 0.15, 0.15, 0.05
CLIPS = 4000
PIECE = 16 << 20


def recipe_of_edition(number: int, minutes: float | None = None) -> Recipe:
    """The recipe of that edition. Raises InputError for one that does not exist, and for minutes that it has no use for."""
    if number == 1:
        if minutes is not None:
            raise InputError("--minutes is for edition 2; the first edition's stages have times of their own")
        return Recipe()
    if number == 2:
        return second_edition(MINUTES if minutes is None else minutes)
    raise InputError(f"there is no edition {number}; use 1 or 2")


def second_edition(minutes: float) -> Recipe:
    """128x128, 81 frames (3.4 s), within so many minutes of one GPU.

    Half of the clips are balls, whose colours the first edition gets wrong most; the audio autoencoder's encoder is three
    times as wide, with twice the channels, since 16 behind an encoder 8 wide lose decaying partials. Weights in files of at
    most 16 MiB, 40 MB together.
    """
    seconds = 60 * minutes
    world = WorldConfig(
        clips=CLIPS, size=128, num_frames=81, scenes=("ball", "face", "ball", "lamp", "ball", "xylophone")
    )
    audio = AudioVaeConfig(
        encoder_dim=24,
        decoder_dim=192,
        latent_dim=32,
        train_clips=CLIPS,
        crop_hops=32,
        batch_size=64,
        budget_seconds=AUDIO_VAE * seconds,
        save_every_seconds=30.0,
    )
    often = {"log_every": 20, "checkpoint_every": 200, "batch_size": 64}
    return Recipe(
        video_vae=_video_vae(world, VIDEO_VAE * seconds),
        audio_vae=audio,
        audio_decoder=replace(
            AUDIO_DECODER,
            train_clips=CLIPS,
            batch_size=64,
            budget_seconds=AUDIO_DECODER_SHARE * seconds,
            save_every_seconds=30.0,
        ),
        latents=LatentConfig(clips=CLIPS, size=world.size, num_frames=world.num_frames, batch=16),
        towers=TowerConfig(video_dim=192, audio_dim=128),
        joint=JOINT.model_copy(update={**often, "budget_seconds": TOWERS * seconds}),
        experts=EXPERTS.model_copy(update={**often, "budget_seconds": EXPERTS_SHARE * seconds}),
        world=world,
        student=StudentConfig(budget_seconds=STUDENT * seconds),
        samples=False,
        shard_bytes=PIECE,
        held_out=32,
        validate_every=200,
        sample_every=0,
        defaults={**Recipe().defaults, "height": world.size, "width": world.size, "num_frames": world.num_frames},
    )


def _video_vae(world: WorldConfig, seconds: float) -> VideoVaeConfig:
    """Batches as large as a GPU wants them, otherwise the first edition's curriculum."""
    return VideoVaeConfig(
        size=world.size,
        num_frames=world.num_frames,
        decoder_base_dim=26,
        budget_seconds=seconds,
        phases=(Phase(0.12, 1, 128), Phase(0.10, 5, 48, 0.8), Phase(0.48, 17, 24, 0.6), Phase(0.30, 81, 8, 0.4)),
        measure_seconds=60.0,
        save_seconds=30.0,
        held_out=8,
    )
