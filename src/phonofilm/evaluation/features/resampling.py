"""Changing a waveform's rate as torchaudio's Resample does with its default settings: a windowed sinc, in float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

ZERO_CROSSINGS = 6
ROLL_OFF = 0.99


def sinc_resample(wave: Tensor, rate: int, target: int) -> Tensor:
    """[..., n] at `rate` -> [..., ceil(n * target / rate)] at `target`: a sinc under a squared cosine, six crossings wide."""
    if rate == target:
        return wave
    divisor = math.gcd(rate, target)
    source, goal = rate // divisor, target // divisor
    kernel, reach = _kernels(source, goal)
    flat = wave.reshape(1, -1, wave.shape[-1]).transpose(0, 1)
    padded = functional.pad(flat, (reach, reach + source))
    phases = functional.conv1d(padded, kernel.to(wave), stride=source)
    length = math.ceil(goal * wave.shape[-1] / source)
    return phases.transpose(1, 2).reshape(flat.shape[0], -1)[:, :length].reshape(*wave.shape[:-1], length)


def _kernels(source: int, goal: int) -> tuple[Tensor, int]:
    """(one filter per phase [goal, 1, taps], samples of history), computed in float64."""
    cutoff = min(source, goal) * ROLL_OFF
    reach = math.ceil(ZERO_CROSSINGS * source / cutoff)
    taps = torch.arange(-reach, reach + source, dtype=torch.float64) / source
    phase = (
        torch.arange(0, -goal, -1) / goal
    )  # float32, as in the original: it changes the result from 44.1 kHz by 1e-5
    time = ((phase[:, None, None] + taps) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = torch.cos(time * math.pi / ZERO_CROSSINGS / 2) ** 2
    angle = time * math.pi
    sinc = torch.where(angle == 0, torch.ones_like(angle), angle.sin() / angle)
    return sinc * window * (cutoff / source), reach
