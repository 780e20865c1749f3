"""The released model's shapes, without its weights: denoisers and inputs on the meta device, where nothing takes memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from phonofilm.geometry import ClipGeometry
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.runtime import released

TEXT_TOKENS = 512
TEXT_DIM = 4096
META = torch.device("meta")

CLIP_360P = ClipGeometry(height=352, width=640, num_frames=193, frame_rate=Fraction(24))
CLIP_720P = ClipGeometry(height=720, width=1280, num_frames=193, frame_rate=Fraction(24))


def released_denoiser(dtype: torch.dtype = torch.bfloat16) -> JointDenoiser:
    """One video expert, the audio tower and the bridge in the sizes of both released checkpoints, on the meta device."""
    return released.released_denoiser().to(dtype).requires_grad_(False)


@dataclass(frozen=True)
class ForwardInputs:
    """What one joint forward of one clip is given: latents and text on the meta device, the timestep on the host."""

    video_latents: Tensor
    audio_latents: Tensor
    text: Tensor
    timestep: Tensor
    frame_rate: float

    @property
    def on_device(self) -> list[Tensor]:
        return [self.video_latents, self.audio_latents, self.text]

    def forward(self, denoiser: JointDenoiser) -> Callable[[], JointOutput]:
        return lambda: denoiser(
            self.video_latents, self.audio_latents, self.timestep, self.timestep, self.text, self.frame_rate
        )


def forward_inputs(clip: ClipGeometry, dtype: torch.dtype = torch.bfloat16) -> ForwardInputs:
    frames, rows, columns = clip.latent_frames, clip.latent_height, clip.latent_width
    return ForwardInputs(
        torch.empty(1, 36, frames, rows, columns, dtype=dtype, device=META),
        torch.empty(1, 128, clip.audio_latents, dtype=dtype, device=META),
        torch.empty(1, TEXT_TOKENS, TEXT_DIM, dtype=dtype, device=META),
        torch.tensor([900.0]),
        float(clip.frame_rate),
    )


@dataclass(frozen=True)
class BlockInputs:
    """What one video block is given: x [1,n,d], modulation [1,6,d], rope [n,e/2], text [1,l,d]."""

    x: Tensor
    modulation: Tensor
    rope: Tensor
    text: Tensor

    @property
    def all(self) -> list[Tensor]:
        return [self.x, self.modulation, self.rope, self.text]


def block_inputs(tokens: int, width: int, head_width: int, rope_dtype: torch.dtype, dtype: torch.dtype) -> BlockInputs:
    return BlockInputs(
        torch.empty(1, tokens, width, dtype=dtype, device=META),
        torch.empty(1, 6, width, dtype=dtype, device=META),
        torch.empty(tokens, head_width // 2, dtype=rope_dtype, device=META),
        torch.empty(1, TEXT_TOKENS, width, dtype=dtype, device=META),
    )
