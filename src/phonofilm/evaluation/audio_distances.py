"""How far one waveform is from another: spectral distance in dB and signal-to-distortion ratio. No models, no files.

Definition of the spectral distance. Power spectra of 32 ms Hann windows every 8 ms are summed into 64 mel bands and put
in dB. Everything below the floor, 60 dB under the loudest cell of the *reference*, is raised to the floor in both
signals. The distance is the mean absolute difference over the cells in which at least one of the two is above the
floor: silence that both keep is not counted, so it cannot flatter a sparse clip; sound that one of the two lacks is.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from phonofilm.errors import InputError

WINDOW_SECONDS = 0.032
HOP_SECONDS = 0.008
MEL_BANDS = 64
FLOOR_DB = -60.0


def stft_magnitude(wave: Tensor, window: int, hop: int) -> Tensor:
    """[..., t] -> [..., window // 2 + 1, 1 + t // hop]: Hann magnitudes in which a full-scale sine peaks near 1.

    The ends are padded with silence, not reflected: a reflected onset would be heard twice.
    """
    hann = torch.hann_window(window, device=wave.device, dtype=wave.dtype)
    spectrum = torch.stft(
        wave.reshape(-1, wave.shape[-1]),
        window,
        hop,
        window,
        hann,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    # abs() has no finite gradient at zero, which is where silent clips live.
    magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-14).sqrt() * (2.0 / window * 2.0)
    return magnitude.reshape(*wave.shape[:-1], *magnitude.shape[1:])


@lru_cache(maxsize=32)
def mel_filters(sampling_rate: int, window: int, bands: int) -> Tensor:
    """[bands, window // 2 + 1] triangles, equally spaced in mel from 0 to the Nyquist frequency, each summing to 1."""

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    edges = torch.linspace(0.0, to_mel(sampling_rate / 2), bands + 2, dtype=torch.float64)
    corners = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins = torch.linspace(0.0, sampling_rate / 2, window // 2 + 1, dtype=torch.float64)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    # A triangle narrower than the bin spacing may fall between two bins: widen it to reach one on either side.
    spacing = sampling_rate / window
    low, high = torch.minimum(low, centre - spacing), torch.maximum(high, centre + spacing)
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp_min(0.0)
    return (triangles / triangles.sum(1, keepdim=True)).float()


def mel_power(wave: Tensor, sampling_rate: int) -> Tensor:
    """[..., t] -> [..., 64, frames]: the mel power cells on which the spectral distance is defined."""
    window = 2 * round(sampling_rate * WINDOW_SECONDS / 2)
    magnitude = stft_magnitude(wave, window, round(sampling_rate * HOP_SECONDS))
    return mel_filters(sampling_rate, window, MEL_BANDS).to(wave) @ magnitude.square()


def spectral_distance(reference: Tensor, estimate: Tensor, sampling_rate: int) -> float:
    """Mean absolute log-mel difference in dB of one clip [t] from its reference [t]; 0 is identical, 1 to 2 is close.

    Raises InputError if the shapes differ, are not [t], or the reference is silent.
    """
    check_pair(reference, estimate)
    cells = [10.0 * torch.log10(mel_power(wave.float(), sampling_rate)) for wave in (reference, estimate)]
    floor = cells[0].max() + FLOOR_DB
    ours, theirs = (cell.clamp_min(float(floor)) for cell in cells)
    audible = (ours > floor) | (theirs > floor)
    return float((ours - theirs).abs()[audible].mean())


def signal_to_distortion(reference: Tensor, estimate: Tensor) -> float:
    """Energy of the reference over the energy of the difference, in dB, for clips [t]. No gain or delay is forgiven.

    Raises InputError if the shapes differ, are not [t], or the reference is silent.
    """
    check_pair(reference, estimate)
    distortion = (reference.double() - estimate.double()).square().sum()
    if not distortion:
        return math.inf
    return float(10.0 * torch.log10(reference.double().square().sum() / distortion))


def check_pair(reference: Tensor, estimate: Tensor) -> None:
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise InputError(
            f"reference {tuple(reference.shape)} and estimate {tuple(estimate.shape)} must both be [samples], "
            "equally long; cut both to the shorter one"
        )
    if not reference.any():
        raise InputError("the reference clip is silent; a distance relative to its peak needs some sound")
