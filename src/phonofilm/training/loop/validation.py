"""Validation loss at fixed noise and fixed sigmas, per expert and modality, with and without the bridge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor, nn

from phonofilm.pipeline.denoising import expert_for
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.interface import HookContext
from phonofilm.training.task.joint_task import Batch, JointInputs, JointModel
from phonofilm.training.task.latent_dataset import LatentDataset, TokenPrompts
from phonofilm.training.task.objective import add_noise, velocity, with_condition
from phonofilm.training.task.timesteps import Expert

VALIDATED_TRACKS = ("video", "audio")
SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
# The clips to score, on a device, in batches of one size each; the same at every call.
Batches = Callable[[torch.device], Iterator[Batch]]


def resident(_: Expert) -> None:
    """Every expert is where it computes already."""


def training_device(model: nn.Module) -> torch.device:
    """Where `model` computes: where its trained weights are. Frozen ones may wait elsewhere."""
    parameters = list(model.parameters())
    return next((p for p in parameters if p.requires_grad), parameters[0]).device


@dataclass
class ValidationLoss:
    """A hook that scores the same clips every time, both tracks at the same sigma.

    Logged per expert, modality and sigma, and their means: `val/video`, `val/audio` and of both `val/mean`.
    `val/audio/no_bridge` and `val/video/no_bridge` are the means with the bridge off: what the other track is worth is
    the difference. `activate` is called before an expert's forwards.
    """

    model: JointModel
    batches: Batches
    boundary_ratio: float
    every: int = 500
    seed: int = 1234
    sigmas: tuple[float, ...] = SIGMAS
    activate: Callable[[Expert], None] = resident
    name: str = "validation"

    def __call__(self, moment: HookContext) -> dict[str, float]:
        values: dict[str, float] = {}
        self.model.eval()
        # Sigma by sigma from the top, so that each expert has to come only once.
        found = {sigma: [self.errors(sigma, bridge) for bridge in (1.0, 0.0)] for sigma in sorted(self.sigmas)[::-1]}
        for place, suffix in enumerate(("", "/no_bridge")):
            means = torch.stack([errors[place] for errors in found.values()]).nanmean(0)
            values |= _known(
                {f"val/{track}{suffix}": value for track, value in zip(VALIDATED_TRACKS, means.tolist(), strict=True)}
            )
        both = [values[name] for name in ("val/video", "val/audio") if name in values]
        values["val/mean"] = sum(both) / len(both)
        for sigma in self.sigmas:
            names = (f"val/{self._expert(sigma)}/{track}/{sigma}" for track in VALIDATED_TRACKS)
            values |= _known(dict(zip(names, found[sigma][0].tolist(), strict=True)))
        return values

    @torch.no_grad()
    def errors(self, sigma: float, bridge: float, batches: int | None = None) -> Tensor:
        """Mean squared velocity errors at one sigma: [video, audio]; NaN where no clip has sound."""
        device = training_device(self.model)
        expert = self._expert(sigma)
        self.activate(expert)
        sums, counts, first = torch.zeros(2), torch.zeros(2), 0
        for number, batch in enumerate(self.batches(device)):
            if number == batches:
                break
            size = batch.sample.video.shape[0]
            errors = self._batch_errors(batch, range(first, first + size), sigma, bridge, expert)
            has_audio = batch.sample.has_audio.float()
            sums += torch.stack([errors[0].sum(), (errors[1] * has_audio).sum()])
            counts += torch.stack([torch.tensor(float(size)), has_audio.sum()])
            first += size
        return sums / counts

    def _expert(self, sigma: float) -> Expert:
        if self.model.low is None:
            return "both"
        return expert_for(sigma, self.boundary_ratio)

    def _batch_errors(
        self, batch: Batch, numbers: Sequence[int], sigma: float, bridge: float, expert: Expert
    ) -> list[Tensor]:
        """Errors [b] of video and audio. A clip's noise depends on its number alone, however clips are batched."""
        sample = batch.sample
        generators = [torch.Generator().manual_seed(self.seed + number) for number in numbers]
        clean = (sample.video, sample.audio)
        noise = [
            torch.stack([torch.randn(track.shape[1:], generator=g) for g in generators]).to(track) for track in clean
        ]
        sigmas = torch.full((len(generators),), sigma)
        inputs = JointInputs(
            with_condition(add_noise(sample.video, noise[0], sigmas), sample.condition),
            add_noise(sample.audio, noise[1], sigmas),
            sigmas,
            sigmas,
            bridge * sample.has_audio.float(),
            batch.prompts(torch.ones(len(generators), dtype=torch.bool)),
            batch.frame_rate,
        )
        output = self.model(inputs, expert)
        pairs = zip((output.video, output.audio), clean, noise, strict=True)
        return [(guess.float() - velocity(x0, eps)).square().flatten(1).mean(1).cpu() for guess, x0, eps in pairs]


def _known(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _same(prompts: TokenPrompts, _: Tensor) -> TokenPrompts:
    return prompts


def latent_batches(dataset: LatentDataset, clips: int = 32, size: int = 8) -> Batches:
    """The first `clips` of a folder of latents, `size` at a time."""
    count = min(clips, len(dataset))

    def batches(device: torch.device) -> Iterator[Batch]:
        for first in range(0, count, size):
            rows = torch.arange(first, min(first + size, count))
            prompts = dataset.prompts(rows, device)
            yield Batch(dataset.sample(rows, device), partial(_same, prompts), dataset.meta.frame_rate)

    return batches


def cached_batches(clips: CachedClips, count: int = 32, size: int = 8) -> Batches:
    """`count` of a cache's clips, the first ones of every bucket in turn, `size` of one bucket at a time."""
    in_turn = [entry for row in zip_longest(*clips.buckets.values()) for entry in row if entry is not None][:count]

    def batches(device: torch.device) -> Iterator[Batch]:
        for bucket in clips.buckets:
            chosen = [entry for entry in in_turn if entry.bucket == bucket]
            for first in range(0, len(chosen), size):
                yield clips.batch_of(bucket, chosen[first : first + size], device)

    return batches
