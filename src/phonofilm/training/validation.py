"""Validation loss at fixed noise and fixed sigmas, per expert and modality, with and without the bridge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phonofilm.training.joint import JointInputs, JointModel
from phonofilm.training.latents import LatentDataset
from phonofilm.training.objective import add_noise, velocity, with_condition
from phonofilm.training.task import Moment
from phonofilm.training.timesteps import Expert

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)


@dataclass
class ValidationLoss:
    """A hook that scores the first `clips` of a folder of latents, both tracks at the same sigma.

    Logged per expert, modality and sigma, and their means: `val/video`, `val/audio`. `val/audio/no_bridge` and
    `val/video/no_bridge` are the means with the bridge off: what the other track is worth is the difference.
    """

    model: JointModel
    dataset: LatentDataset
    boundary_ratio: float
    every: int = 500
    clips: int = 32
    batch_size: int = 8
    seed: int = 1234
    sigmas: tuple[float, ...] = SIGMAS
    name: str = "validation"

    def __call__(self, moment: Moment) -> dict[str, float]:
        values: dict[str, float] = {}
        clips = min(self.clips, len(self.dataset))
        for bridge, suffix in ((1.0, ""), (0.0, "/no_bridge")):
            means = torch.stack([self._at(sigma, clips, bridge) for sigma in self.sigmas])
            values[f"val/video{suffix}"], values[f"val/audio{suffix}"] = means.mean(0).tolist()
            if not suffix:
                for sigma, (video, audio) in zip(self.sigmas, means.tolist(), strict=True):
                    expert = self._expert(sigma)
                    values[f"val/{expert}/video/{sigma}"] = video
                    values[f"val/{expert}/audio/{sigma}"] = audio
        return values

    def _expert(self, sigma: float) -> Expert:
        if self.model.low is None:
            return "both"
        return "high" if sigma >= self.boundary_ratio else "low"

    def _at(self, sigma: float, clips: int, bridge: float) -> Tensor:
        """Mean squared velocity errors at one sigma: [video, audio]."""
        device = next(self.model.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        shapes = [self.dataset.arrays[track].shape[1:] for track in ("video", "audio")]
        noise = [torch.randn((clips, *shape), generator=generator).to(device) for shape in shapes]
        sums = torch.zeros(2)
        heard = 0.0
        for first in range(0, clips, self.batch_size):
            rows = torch.arange(first, min(first + self.batch_size, clips))
            sample = self.dataset.sample(rows, device)
            sigmas = torch.full((len(rows),), sigma)
            noises = [track[first : first + len(rows)] for track in noise]
            inputs = JointInputs(
                with_condition(add_noise(sample.video, noises[0], sigmas), sample.condition),
                add_noise(sample.audio, noises[1], sigmas),
                sigmas,
                sigmas,
                torch.full((len(rows),), bridge),
                self.dataset.prompts(rows, device),
                self.dataset.meta.frame_rate,
            )
            with torch.no_grad():
                output = self.model(inputs, self._expert(sigma))
            targets = (velocity(sample.video, noises[0]), velocity(sample.audio, noises[1]))
            errors = [
                (guess.float() - target).square().flatten(1).mean(1).cpu()
                for guess, target in zip((output.video, output.audio), targets, strict=True)
            ]
            weight = sample.has_audio.float()
            sums += torch.stack([errors[0].sum(), (errors[1] * weight).sum()])
            heard += float(weight.sum())
        return sums / torch.tensor([clips, max(heard, 1.0)])
