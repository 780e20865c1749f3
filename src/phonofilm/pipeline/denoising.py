"""The two experts as one callable for the sampler: which expert runs at a step, and what it is told.

Shapes: b clips, c latent channels, f/h/w latent frames, rows, columns, t audio latents.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser, Positions
from phonofilm.models.video import WanModel
from phonofilm.pipeline.conditions import Text
from phonofilm.pipeline.guidance import Evaluation, Latents
from phonofilm.pipeline.schedule import Step


@dataclass
class Experts:
    """The high- and the low-noise expert around one audio tower and bridge. Without a low one, the high one does it all.

    `boundary`: video timesteps from here up (0..1000) belong to the high-noise expert. `release_high`: called once when
    the low-noise expert takes over, for whoever wants the other's memory back.
    """

    high: WanModel | None
    low: WanModel | None
    audio: WanAudioModel
    bridge: DualTowerConditionalBridge
    boundary: float
    release_high: Callable[[], None] | None = None

    def at(self, video_timestep: float) -> JointDenoiser:
        wants_high = video_timestep >= self.boundary or self.low is None
        if not wants_high and self.release_high is not None:
            self.high = None
            self.release_high()
            gc.collect()
            self.release_high = None
        expert = self.high if wants_high else self.low
        if expert is None:
            raise InputError(
                "the high-noise expert was removed from memory by an earlier call; load the pipeline again"
            )
        for module in (expert, self.audio, self.bridge):
            wake(module)
        return JointDenoiser(expert, self.audio, self.bridge)


@dataclass
class ExpertVelocity:
    """What the sampler calls. condition [b,4+c,f,h,w]; text per evaluation, embeddings on `device`.

    `bridge_scale` multiplies the bridge in the evaluations that have it.
    """

    experts: Experts
    geometry: ClipGeometry
    condition: Tensor
    text: dict[Evaluation, tuple[Tensor, Tensor | None]]
    bridge_scale: float = 1.0
    _positions: Positions | None = field(default=None, init=False)

    def __call__(self, step: Step, latents: Latents, evaluation: Evaluation) -> Latents:
        denoiser = self.experts.at(step.video.timestep)
        embeds, bias = self.text[evaluation]
        out = denoiser(
            torch.cat([latents.video, self.condition], dim=1),
            latents.audio,
            torch.tensor(step.video.timestep),
            torch.tensor(step.audio.timestep),
            embeds,
            float(self.geometry.frame_rate),
            text_bias=bias,
            bridge_scale=0.0 if evaluation is Evaluation.NEGATIVE_ALONE else self.bridge_scale,
            positions=self._where(denoiser, latents),
        )
        return Latents(out.video.float(), out.audio.float())

    def _where(self, denoiser: JointDenoiser, latents: Latents) -> Positions:
        if self._positions is None:
            frames, rows, columns = (
                size // patch for size, patch in zip(latents.video.shape[2:], denoiser.video.patch_size, strict=True)
            )
            tokens = math.ceil(latents.audio.shape[2] / denoiser.audio.patch_size)
            self._positions = denoiser.positions(
                (frames, rows, columns), tokens, float(self.geometry.frame_rate), latents.video.device
            )
        return self._positions


def model_text(text: Text, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Embeddings and bias for the towers. On the host the padding is folded (equal up to rounding, and most of the text
    attention's work is padding); on a GPU it is kept, because attention kernels without a bias are the faster ones."""
    if device.type == "cpu":
        return text.folded()
    return text.embeds.to(device), None


def wake(module: nn.Module) -> None:
    """Bring an offloaded component to its device: accelerate hooks a module's forward, and the towers run block by block."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
