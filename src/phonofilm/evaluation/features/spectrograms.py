"""Mel spectrograms as torchaudio defines them, and Kaldi's filter banks, from waveforms. In torch, without torchaudio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

KALDI_FFT = 512
KALDI_WINDOW = 400  # 25 ms at 16 kHz
KALDI_STEP = 160
KALDI_RATE = 16_000
KALDI_LOWEST = 20.0  # Hz
KALDI_PRE_EMPHASIS = 0.97
_KALDI_SMALLEST = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class MelScale:
    """A mel spectrogram's settings: HTK's mel scale, triangles with a peak of 1, a Hann window, powers.

    window: samples, centred in the FFT's. lowest, highest: Hz.
    """

    sampling_rate: int
    fft_size: int
    window: int
    hop: int
    bands: int
    lowest: float
    highest: float


def mel_spectrogram(wave: Tensor, scale: MelScale) -> Tensor:
    """[..., n] -> [..., bands, 1 + n // hop], powers; frames are centred, the ends mirrored."""
    flat = wave.reshape(-1, wave.shape[-1])
    window = torch.hann_window(scale.window, dtype=wave.dtype, device=wave.device)
    spectrum = torch.stft(
        flat,
        scale.fft_size,
        hop_length=scale.hop,
        win_length=scale.window,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = spectrum.abs().square()
    bands = (power.transpose(1, 2) @ htk_triangles(scale).to(wave)).transpose(1, 2)
    return bands.reshape(*wave.shape[:-1], *bands.shape[1:])


@lru_cache(maxsize=8)
def htk_triangles(scale: MelScale) -> Tensor:
    """float32 [fft_size // 2 + 1, bands]: triangles between points that are spaced evenly on HTK's mel scale."""
    frequency = torch.linspace(0, scale.sampling_rate // 2, scale.fft_size // 2 + 1)
    low, high = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (scale.lowest, scale.highest))
    points = 700.0 * (10.0 ** (torch.linspace(low, high, scale.bands + 2) / 2595.0) - 1.0)
    width = points[1:] - points[:-1]
    distance = points[None] - frequency[:, None]
    rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
    return torch.minimum(rising, falling).clamp(min=0)


def decibels(power: Tensor) -> Tensor:
    """10 log10 of powers, none below -100 dB."""
    return 10.0 * power.clamp(min=1e-10).log10()


def kaldi_filter_bank(wave: Tensor, bands: int = 128) -> Tensor:
    """[n] at 16 kHz -> [frames, bands]: logarithms of Kaldi's mel filter bank, a Hann window of 25 ms every 10 ms.

    As `torchaudio.compliance.kaldi.fbank(htk_compat=True, use_energy=False, window_type="hanning", dither=0)`: each frame
    loses its mean, is pre-emphasised, and only whole frames count. Raises ValueError for less than one frame.
    """
    if wave.ndim != 1 or len(wave) < KALDI_WINDOW:
        raise ValueError(f"expected at least {KALDI_WINDOW} samples of one channel, given the shape {list(wave.shape)}")
    frames = wave.unfold(0, KALDI_WINDOW, KALDI_STEP)
    frames = frames - frames.mean(1, keepdim=True)
    before = functional.pad(frames[:, None], (1, 0), mode="replicate")[:, 0, :-1]
    frames = frames - KALDI_PRE_EMPHASIS * before
    frames = frames * torch.hann_window(KALDI_WINDOW, periodic=False, dtype=wave.dtype, device=wave.device)
    power = torch.fft.rfft(frames, KALDI_FFT).abs().square()
    # The highest bin of the FFT belongs to no filter.
    energies: Tensor = power[:, :-1] @ _kaldi_triangles(bands).to(wave).T
    return energies.clamp(min=_KALDI_SMALLEST).log()


@lru_cache(maxsize=4)
def _kaldi_triangles(bands: int) -> Tensor:
    """float32 [bands, 256]: triangles in mel, not in Hz, from 20 Hz to half the rate."""
    low, high = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (KALDI_LOWEST, KALDI_RATE / 2))
    step = (high - low) / (bands + 1)
    band = torch.arange(bands)[:, None]
    left, peak, right = (low + (band + edge) * step for edge in (0.0, 1.0, 2.0))
    frequency = KALDI_RATE / KALDI_FFT * torch.arange(KALDI_FFT // 2)
    mel = 1127.0 * torch.log(1.0 + frequency / 700.0)
    rising, falling = (mel - left) / (peak - left), (right - mel) / (right - peak)
    return torch.minimum(rising, falling).clamp(min=0)
