"""The latents' stage of the recipe: world clips through both finished autoencoders into the trainer's folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from phonofilm.files import replacing
from phonofilm.models.audio_vae import DAC
from phonofilm.models.convolutions import channels_last
from phonofilm.models.one_pass import OnePass
from phonofilm.nano.world import make_clip
from phonofilm.pipeline.conditions import clean_prompt, normalize
from phonofilm.training.loop.precision import has_fast_bfloat16
from phonofilm.training.task.latent_dataset import LatentMeta, LatentWriter
from recipes.nano.video_vae.reconstruction import to_pixels
from recipes.nano.world_bank import SeenClip, World

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentConfig:
    """How many clips, of which size, and how they are encoded (`batch` clips at a time).

    With `scenes`, which are drawn in turn, one that is named twice is seen twice as often; otherwise each seed picks its own.
    Every `bare`-th caption ends without its full stop, as people write (0: none does).
    """

    clips: int = 5200
    first_seed: int = 0
    scenes: tuple[str, ...] = ()
    bare: int = 0
    size: int = 64
    num_frames: int = 49
    frame_rate: Fraction = Fraction(24)
    batch: int = 4
    prompt_tokens: int = 64
    autocast: bool | None = None  # None: where bfloat16 is fast


@dataclass(frozen=True)
class WorldEncoders:
    """The two finished autoencoders and the tokenizer."""

    video: AutoencoderKLWan
    audio: DAC
    tokenizer: PreTrainedTokenizerFast


def write_latents(config: LatentConfig, encoders: WorldEncoders, folder: Path, world: World | None = None) -> Path:
    """Encode the seeds' clips into `folder` (as a `LatentDataset`); nothing to do if it is there already.

    They are those of `world` where there is one, and otherwise rendered here.
    """
    if folder.exists():
        return folder
    with replacing(folder) as temporary:
        encode = _Encode(config, encoders)
        writer: LatentWriter | None = None
        for first, clips in _batches(config, world):
            video, condition, audio = encode(clips)
            if writer is None:
                meta = LatentMeta(frame_rate=float(config.frame_rate))
                writer = LatentWriter(
                    temporary, config.clips, tuple(video.shape[1:]), tuple(audio.shape[1:]), config.prompt_tokens, meta
                )
            captions = [caption(config, first + number, clip) for number, clip in enumerate(clips)]
            prompts = [prompt_ids(encoders.tokenizer, text) for text in captions]
            writer.put(first, video, condition, audio, prompts, torch.ones(len(clips), dtype=torch.bool))
            if first % (100 * config.batch) == 0:
                logger.info("latents: %d of %d clips", first, config.clips)
        if writer is not None:
            writer.close(encode.condition(encode.white())[0], prompt_ids(encoders.tokenizer, ""))
    return folder


def caption(config: LatentConfig, row: int, clip: SeenClip) -> str:
    """What the towers are told of a row's clip."""
    is_bare = config.bare > 0 and row % config.bare == config.bare - 1
    return clip.caption.removesuffix(".") if is_bare else clip.caption


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """The prompt's tokens with their end mark, cleaned as the pipeline cleans it."""
    return list(tokenizer(clean_prompt(prompt), add_special_tokens=True).input_ids)


class _Encode:
    """Clips to normalised latents, as the pipeline would encode them one by one."""

    def __init__(self, config: LatentConfig, encoders: WorldEncoders) -> None:
        self.config, self.encoders = config, encoders
        channels_last(encoders.video)
        self.one_pass = OnePass(encoders.video)
        self.device = encoders.video.device
        asked = config.autocast
        self.autocast = has_fast_bfloat16(self.device) if asked is None else asked

    @torch.no_grad()
    def __call__(self, clips: Sequence[SeenClip]) -> tuple[Tensor, Tensor, Tensor]:
        """Video [b,c,f,h,w], condition of the same shape, audio [b,c,n]."""
        pixels = to_pixels(torch.from_numpy(np.stack([clip.frames for clip in clips])).to(self.device))
        waves = torch.from_numpy(np.stack([clip.audio for clip in clips]))[:, None].to(self.device)
        return self.video(pixels), self.condition(pixels[:, :, :1]), self.encoders.audio.encode(waves).mode()

    @torch.no_grad()
    def condition(self, first: Tensor) -> Tensor:
        """First frames [b,3,1,h,w] followed by grey."""
        grey = first.new_zeros(*first.shape[:2], self.config.num_frames - 1, *first.shape[3:])
        return self.video(torch.cat((first, grey), dim=2))

    def video(self, pixels: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            mean, _ = self.one_pass.encode(pixels)
        return normalize(self.encoders.video, mean)

    def white(self) -> Tensor:
        """[1,3,1,h,w]: the frame that stands for no picture."""
        return torch.ones(1, 3, 1, self.config.size, self.config.size, device=self.device)


def _batches(config: LatentConfig, world: World | None) -> Iterator[tuple[int, Sequence[SeenClip]]]:
    """(row, clips) in order of the seeds."""
    for first in range(0, config.clips, config.batch):
        rows = range(first, min(first + config.batch, config.clips))
        yield first, _rendered(config, rows) if world is None else world.clips(rows)


def _rendered(config: LatentConfig, rows: range) -> Sequence[SeenClip]:
    return [
        make_clip(
            config.first_seed + row,
            scene=config.scenes[row % len(config.scenes)] if config.scenes else None,
            size=config.size,
            num_frames=config.num_frames,
            frame_rate=config.frame_rate,
        )
        for row in rows
    ]
