"""A picture of a clip that is still being sampled: the middle frame of what the model takes the clip to become."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phonofilm.generation.report import Preview
from phonofilm.pipeline.decode import decode_video
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.schedule import TrackStep


@dataclass
class Previews:
    """Of one run: remembers the latents of the step before, from which the velocity of a step follows."""

    _before: Tensor | None = field(default=None, init=False)

    def after(self, pipe: MovaPipeline, step: TrackStep, latents: Tensor) -> Preview | None:
        """What gives the picture after a step, when it is asked for; None after the first. latents: [b,c,f,h,w]."""
        before, self._before = self._before, latents
        if before is None or step.sigma == step.sigma_next:
            return None
        middle = latents.shape[2] // 2
        now, then = latents[:1, :, middle : middle + 1], before[:1, :, middle : middle + 1]
        return partial(_picture, pipe, now, then, step)


@torch.no_grad()
def _picture(pipe: MovaPipeline, now: Tensor, before: Tensor, step: TrackStep) -> Image.Image:
    velocity = (now - before) / (step.sigma_next - step.sigma)
    frame = decode_video(pipe.video_vae, now - step.sigma_next * velocity)[0, 0]
    return Image.fromarray(np.round(frame.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
