"""Samples while the towers train: a hook that makes the same few held-out clips now and then, to look at and listen to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from transformers import PreTrainedTokenizerFast

from phonofilm.media.sheet import contact_sheet
from phonofilm.media.write import save_clip
from phonofilm.models.audio_vae import DAC
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, make_clip
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.training.config import TimestepConfig
from phonofilm.training.joint import JointModel
from phonofilm.training.task import Moment


@dataclass
class SampleHook:
    """One clip of every scene, from held-out captions and first frames and always the same noise.

    Written to `samples/` in the run's folder as mp4 with sound and as contact sheet. `video_vae`, `audio_vae` and
    `tokenizer` are the finished ones; `defaults` the packaged model's sizes and settings.
    """

    model: JointModel
    video_vae: AutoencoderKLWan
    audio_vae: DAC
    tokenizer: PreTrainedTokenizerFast
    timesteps: TimestepConfig
    defaults: dict[str, Any]
    every: int = 1000
    name: str = "samples"
    seed: int = 0
    scenes: tuple[str, ...] = field(default_factory=lambda: tuple(SCENES))

    def __call__(self, moment: Moment) -> dict[str, float]:
        folder = moment.folder / "samples"
        folder.mkdir(exist_ok=True)
        pipe = self._pipeline()
        for index, scene in enumerate(self.scenes):
            truth = make_clip(
                HELD_OUT_SEED + index, scene=scene, size=pipe.defaults.height, num_frames=pipe.defaults.num_frames
            )
            generator = torch.Generator().manual_seed(self.seed + index)
            made = pipe(truth.caption, image=Image.fromarray(truth.frames[0]), generator=generator)
            clip = made.clips([{"prompt": truth.caption, "step": moment.step}])[0]
            save_clip(clip, folder / f"{scene}_{moment.step:06d}.mp4")
            contact_sheet(clip, title=truth.caption).save(folder / f"{scene}_{moment.step:06d}.png")
        return {}

    def _pipeline(self) -> MovaPipeline:
        high, low, steps = self.model.high, self.model.low, self.timesteps
        pipe = MovaPipeline(
            video_vae=self.video_vae,
            audio_vae=self.audio_vae,
            text_encoder=self.model.text,
            tokenizer=self.tokenizer,
            scheduler=FlowMatchPairScheduler(
                shift=steps.video_shift, sigma_min=steps.sigma_min, extra_one_step=steps.extra_one_step
            ),
            video_dit=high.video,
            video_dit_2=None if low is None else low.video,
            audio_dit=high.audio,
            dual_tower_bridge=high.bridge,
            boundary_ratio=steps.boundary_ratio,
            defaults=self.defaults,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe
