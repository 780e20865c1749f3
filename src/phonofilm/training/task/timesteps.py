"""Where on the noise axis a training sample is drawn: sigmas for both tracks, within the active expert's part.

Legend: a position p in [0, 1) runs along the sampling schedule, 0 = pure noise; the unshifted noise level is 1 - p and
sigma = s (1 - p) / (1 + (s - 1)(1 - p)) for shift s. A timestep is 1000 sigma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.training.config.training_config import TimestepConfig

Expert = Literal["both", "high", "low"]


@dataclass(frozen=True)
class SigmaPair:
    """One sigma per sample and track: two float32 tensors [b] in [0, 1], on the host."""

    video: Tensor
    audio: Tensor


def shift_level(level: Tensor, shift: float) -> Tensor:
    """The sigma of an unshifted noise level in [0, 1]."""
    return shift * level / (1 + (shift - 1) * level)


@lru_cache(maxsize=16)
def sigma_table(config: TimestepConfig, shift: float) -> Tensor:
    """The sampler's own table at `train_steps` points, from 1 downwards."""
    scheduler = FlowMatchPairScheduler(
        num_train_timesteps=config.train_steps, sigma_min=config.sigma_min, extra_one_step=config.extra_one_step
    )
    result: Tensor = scheduler.sigmas(config.train_steps, shift)
    return result


def expert_positions(config: TimestepConfig, expert: Expert) -> tuple[float, float]:
    """The half-open range of positions [start, end) whose video sigma belongs to `expert`.

    With `shared` timesteps the boundary is read from the table, so that it is the sampler's to the last entry; with
    `independent` ones it is where the shifted curve crosses it.
    """
    boundary = config.boundary_ratio
    if expert == "both":
        return 0.0, 1.0
    if config.mode == "shared":
        split = float((sigma_table(config, config.video_shift) >= boundary).sum()) / config.train_steps
    else:
        split = 1.0 - boundary / (config.video_shift - (config.video_shift - 1) * boundary)
    return (0.0, split) if expert == "high" else (split, 1.0)


def draw_positions(config: TimestepConfig, count: int, start: float, end: float, generator: torch.Generator) -> Tensor:
    """`count` positions [b] from the configured density, restricted to [start, end)."""
    u = torch.rand(count, generator=generator)
    if config.density == "uniform":
        return start + u * (end - start)
    if config.density == "logit_normal":
        low, high = (_normal_cdf((_logit(edge) - config.logit_mean) / config.logit_std) for edge in (start, end))
        z = torch.special.ndtri((low + u * (high - low)).double().clamp(1e-12, 1 - 1e-12))
        positions = torch.sigmoid(config.logit_mean + config.logit_std * z).float()
    else:
        first, last = (_mode_inverse(edge, config.mode_scale) for edge in (end, start))
        positions = _mode_curve(first + u * (last - first), config.mode_scale)
    return positions.clamp(start, end)


def draw_sigmas(config: TimestepConfig, expert: Expert, count: int, generator: torch.Generator) -> SigmaPair:
    """Sigmas for `count` samples. Only the video's is bound to the expert's part, and the audio's with it if shared."""
    start, end = expert_positions(config, expert)
    video = draw_positions(config, count, start, end, generator)
    if config.mode == "independent":
        audio = draw_positions(config, count, 0.0, 1.0, generator)
        return SigmaPair(shift_level(1 - video, config.video_shift), shift_level(1 - audio, config.audio_shift))
    # Positions are exact multiples of 1/train_steps at the edges; the nudge keeps float32 from falling one entry short.
    first, last = round(start * config.train_steps), round(end * config.train_steps) - 1
    index = (video * config.train_steps + 1e-4).long().clamp(first, last)
    return SigmaPair(*(sigma_table(config, shift)[index] for shift in (config.video_shift, config.audio_shift)))


def _logit(p: float) -> float:
    return -math.inf if p <= 0 else math.inf if p >= 1 else math.log(p / (1 - p))


def _normal_cdf(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _mode_curve(u: Tensor, scale: float) -> Tensor:
    """SD3's mode sampling: a strictly falling map of [0, 1] onto itself that dwells in the middle when scale > 0."""
    return 1 - u - scale * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)


def _mode_inverse(position: float, scale: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        above = 1 - middle - scale * (math.cos(math.pi / 2 * middle) ** 2 - 1 + middle) > position
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2
