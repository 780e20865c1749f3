"""Trains the small video autoencoder from nothing: an `AutoencoderKLWan` with the released compression (8x8x4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray

from phonofilm.files import replacing
from phonofilm.models.one_pass import OnePass
from recipes.nano.video_vae.config import Phase, VideoVaeConfig, build_video_vae
from recipes.nano.video_vae.frame_bank import FrameBank, open_bank
from recipes.nano.video_vae.reconstruction import to_pixels
from recipes.nano.video_vae.train_loop import VideoVaeTrainer
from recipes.nano.world_bank import World

__all__ = ["Phase", "VideoVaeConfig", "build_video_vae", "train_video_vae", "write_statistics"]

logger = logging.getLogger(__name__)


def train_video_vae(
    config: VideoVaeConfig,
    run_dir: Path,
    *,
    device: torch.device | str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    world: World | None = None,
) -> Path:
    """Train, or go on training, in `run_dir`; return the finished diffusers folder `run_dir/video_vae`.

    Writes `checkpoint.pt` (resume), `log.csv` (curves), `measures.csv`, `sheet_*.png` (truth over reconstruction).
    It learns from `world`, whose clips may still be coming; without one it renders its own. `should_stop` is asked after
    every step; a stopped run saves its checkpoint and continues when called again.
    """
    finished = run_dir / "video_vae"
    if (finished / "config.json").exists():
        logger.info("video VAE: already finished in %s", finished)
        return finished
    run_dir.mkdir(parents=True, exist_ok=True)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trainer = VideoVaeTrainer(config, run_dir, _frame_bank(config, run_dir, torch.device(device), world))
    trainer.restore()
    while not trainer.done:
        trainer.step()
        if should_stop():
            trainer.save()
            return run_dir
    trainer.save()
    trainer.observe()
    write_statistics(trainer.vae, trainer.bank.clips[: config.statistics_clips])
    with replacing(finished) as temporary:
        trainer.vae.to(memory_format=torch.contiguous_format).save_pretrained(temporary)
    return finished


def _frame_bank(config: VideoVaeConfig, run_dir: Path, device: torch.device, world: World | None) -> FrameBank:
    if world is not None:
        world.wait(max(world.config.first_clips, config.statistics_clips))
        return FrameBank(world.frames, lambda: world.ready, device)
    clips = open_bank(run_dir / "frames.npy", config.bank_clips, size=config.size, num_frames=config.num_frames)
    return FrameBank(clips, lambda: len(clips), device)


@torch.no_grad()
def write_statistics(vae: AutoencoderKLWan, clips: NDArray[np.uint8]) -> None:
    """Measure mean and standard deviation of every latent channel over `clips` and put them into the config.

    The condition's latents ([first frame, grey...]) go through the same normalisation, but do not enter it.
    """
    device = next(vae.parameters()).device
    latents = []
    for frames in clips:
        mean, _ = OnePass(vae).encode(to_pixels(torch.from_numpy(np.array(frames[None])).to(device)))
        latents.append(mean[0].flatten(1).cpu())
    stacked = torch.cat(latents, dim=1)
    vae.register_to_config(latents_mean=stacked.mean(1).tolist(), latents_std=stacked.std(1).tolist())
