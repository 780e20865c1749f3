"""The stages of the embedded model's recipe, from nothing to a checkpoint folder. Each stage lives in its own file.

A stage whose result stands in the run's folder is not run again, and an interrupted one goes on from its checkpoint, so
calling `run_recipe` again always continues where the last call ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from phonofilm.errors import InputError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.audio_vae import DAC
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.video import WanModel
from phonofilm.nano.world import HELD_OUT_SEED, make_clip
from phonofilm.training.config.training_config import JointConfig
from phonofilm.training.loop.previews import PreviewComponents, SampleHook
from phonofilm.training.loop.validation import ValidationLoss, latent_batches
from phonofilm.training.task.interface import Hook
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.latent_dataset import LatentDataset
from recipes.nano.audio_vae.sound_bank import Sound
from recipes.nano.audio_vae.train_audio_decoder import train_audio_decoder
from recipes.nano.audio_vae.train_audio_vae import AudioVaeConfig, train_audio_vae
from recipes.nano.recipe import RecipeRun
from recipes.nano.student import train_student
from recipes.nano.text_encoder import build_text_encoder, make_tokenizer
from recipes.nano.towers.encode_world import WorldEncoders, write_latents
from recipes.nano.towers.held_out_previews import held_out_previews
from recipes.nano.towers.train_towers import package, scheduler_for, train_experts, train_towers
from recipes.nano.video_vae.train_video_vae import train_video_vae
from recipes.nano.world_bank import World, rendering

logger = logging.getLogger(__name__)

Stage = Callable[[RecipeRun, World | None], None]


def run_recipe(run: RecipeRun, stages: Sequence[str] = ()) -> Path | None:
    """Run the named stages (all, in order, when none is named); the checkpoint's folder, None if it is not there yet.

    Raises InputError for an unknown stage, or when a stage's predecessor has not finished.
    """
    steps = stage_functions()
    with _world(run) as world:
        for name in chosen_stages(stages):
            logger.info("stage %s", name)
            steps[name](run, world)
    return run.checkpoint if run.checkpoint.exists() else None


def chosen_stages(names: Sequence[str]) -> tuple[str, ...]:
    """Those named, or all. Raises InputError for one that does not exist."""
    steps = stage_functions()
    if unknown := [name for name in names if name not in steps]:
        raise InputError(f"unknown stage {', '.join(unknown)}; the stages are {', '.join(steps)}")
    return tuple(names or steps)


def _world(run: RecipeRun) -> AbstractContextManager[World | None]:
    return nullcontext() if run.recipe.world is None else rendering(run.recipe.world, run.world)


def stage_functions() -> dict[str, Stage]:
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
        "student": _student,
    }


def _video_vae(run: RecipeRun, world: World | None) -> None:
    train_video_vae(run.recipe.video_vae, run.video_vae.parent, device=run.device, world=world)


def _audio_vae(run: RecipeRun, world: World | None) -> None:
    if not (run.audio_vae / "metrics.json").exists():
        config = run.recipe.audio_vae
        train_audio_vae(config, run.audio_vae.parent, device=run.device, make_sound=_sounds(world, config))


def _audio_decoder(run: RecipeRun, world: World | None) -> None:
    if not (run.audio_decoder / "metrics.json").exists():
        start, config = _finished(run.audio_vae, "audio-vae"), run.recipe.audio_decoder
        sounds = _sounds(world, config)
        train_audio_decoder(config, start, run.audio_decoder.parent, device=run.device, make_sound=sounds)


def _sounds(world: World | None, config: AudioVaeConfig) -> Callable[[int], Sound] | None:
    """The sound of a seed: the world's, and for those that are held out, made here. None: as the stage makes them itself."""
    if world is None:
        return None
    world.wait(config.train_clips)

    def sound(seed: int) -> Sound:
        if seed < HELD_OUT_SEED:
            return world.sound(seed)
        sizes = world.config
        held = make_clip(seed, size=8, num_frames=sizes.num_frames, sampling_rate=sizes.sampling_rate)
        return held.audio

    return sound


def _text(run: RecipeRun, world: World | None) -> None:
    config = run.recipe.text
    if (run.text / "text_encoder" / "config.json").exists():
        return
    tokenizer = make_tokenizer(make_clip(seed, size=8, num_frames=1).caption for seed in range(config.captions))
    tokenizer.save_pretrained(run.text / "tokenizer")
    encoder = build_text_encoder(len(tokenizer), width=config.width, layers=config.layers, heads=config.heads)
    encoder.save_pretrained(run.text / "text_encoder")


def _latents(run: RecipeRun, world: World | None) -> None:
    if world is not None:
        world.wait(run.recipe.latents.clips)
    encoders = WorldEncoders(
        AutoencoderKLWan.from_pretrained(_finished(run.video_vae, "video-vae")).to(run.device),
        DAC.from_pretrained(_finished(run.audio_vae, "audio-vae")).to(run.device),
        PreTrainedTokenizerFast.from_pretrained(_finished(run.text / "tokenizer", "text")),
    )
    write_latents(run.recipe.latents, encoders, run.latents, world)
    held_out = replace(run.recipe.latents, clips=run.recipe.held_out, first_seed=HELD_OUT_SEED)
    write_latents(held_out, encoders, run.held_out)


def _joint(run: RecipeRun, world: World | None) -> None:
    text = _finished(run.text / "text_encoder", "text")
    latents = _finished(run.latents, "latents")
    train_towers(run.recipe.towers, run.recipe.joint, latents, text, run.joint, partial(_validation_and_samples, run))


def _experts(run: RecipeRun, world: World | None) -> None:
    networks = _finished(run.joint / "networks", "joint")
    latents = _finished(run.latents, "latents")
    train_experts(run.recipe.experts, networks, latents, run.experts, partial(_validation_and_samples, run))


def _validation_and_samples(run: RecipeRun, model: JointModel, config: JointConfig) -> tuple[Hook, ...]:
    """Validation losses and samples on held-out clips while the towers train."""
    timesteps, defaults = config.objective.timesteps, run.recipe.defaults
    held_out = latent_batches(LatentDataset(run.held_out))
    validation = ValidationLoss(model, held_out, timesteps.boundary_ratio, every=run.recipe.validate_every)
    if not run.recipe.samples:
        return (validation,)
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


def _package(run: RecipeRun, world: World | None) -> None:
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
    package(parts, tokenizer, run.recipe.experts, run.recipe.defaults, run.checkpoint, run.recipe.shard_bytes)


def _student(run: RecipeRun, world: World | None) -> None:
    if run.recipe.student is None:
        return
    if world is None:
        raise InputError("this edition has a student and no world whose captions it would learn from")
    checkpoint = _finished(run.checkpoint, "package")
    world.wait(run.recipe.student.captions)
    train_student(run.recipe.student, checkpoint, world, run.student)


def _finished(path: Path, stage: str) -> Path:
    if not path.exists():
        raise InputError(f"{path} is not there yet; run the stage {stage} first (or let it finish)")
    return path
