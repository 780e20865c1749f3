"""Distances between waveforms: what they ignore, what they count, in which unit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.evaluation.audio_distances import mel_filters, signal_to_distortion, spectral_distance, stft_magnitude

RATE = 16000


def tone(frequency: float = 440.0, amplitude: float = 0.5, begin: float = 0.3, end: float = 0.7) -> Tensor:
    t = torch.arange(RATE) / RATE
    return amplitude * torch.sin(2 * math.pi * frequency * t) * ((t >= begin) & (t < end))


def test_identical_clips_have_no_distance() -> None:
    assert spectral_distance(tone(), tone(), RATE) == 0.0
    assert signal_to_distortion(tone(), tone()) == math.inf


@pytest.mark.parametrize("db", [-3.0, 2.0])
def test_a_gain_is_a_distance_of_that_many_decibels(db: float) -> None:
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert spectral_distance(noise, noise * 10 ** (db / 20), RATE) == pytest.approx(abs(db), abs=0.05)


def test_the_spectral_distance_ignores_phase_and_sdr_does_not() -> None:
    t = torch.arange(RATE) / RATE
    swell = torch.hann_window(RATE)  # a hard edge would sound different at another phase
    sine, cosine = (swell * torch.sin(2 * math.pi * 440 * t + phase) for phase in (0.0, math.pi / 2))
    assert spectral_distance(sine, cosine, RATE) < 1.0
    assert signal_to_distortion(sine, cosine) == pytest.approx(-3.0, abs=0.1)


def test_shared_silence_does_not_flatter() -> None:
    """The same difference in a clip with ten times the silence is the same distance."""
    short, wrong = tone()[4000:12000], tone(460.0)[4000:12000]
    silence = torch.zeros(80000)
    alone = spectral_distance(short, wrong, RATE)
    assert spectral_distance(torch.cat([short, silence]), torch.cat([wrong, silence]), RATE) == pytest.approx(alone)


def test_a_missing_sound_and_an_added_one_both_count() -> None:
    both = tone() + tone(1200.0, begin=0.8, end=0.9)
    assert spectral_distance(both, tone(), RATE) > 2.0
    assert spectral_distance(tone(), both, RATE) > 2.0
    assert spectral_distance(tone(), tone() * 1e-9, RATE) > 10.0


def test_sound_below_the_floor_is_not_counted() -> None:
    hiss = 1e-6 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert spectral_distance(tone(), tone() + hiss, RATE) < 0.1


def test_sdr_is_the_energy_ratio() -> None:
    assert signal_to_distortion(tone(), 0.9 * tone()) == pytest.approx(20.0, abs=1e-4)


def test_a_full_scale_sine_peaks_near_one_in_every_window() -> None:
    sine = torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)
    for window in (64, 512, 1024):
        assert float(stft_magnitude(sine, window, window // 4).max()) == pytest.approx(1.0, abs=0.05)


def test_every_mel_band_hears_something_and_weighs_the_same() -> None:
    for rate, window, bands in ((16000, 512, 64), (48000, 1536, 64), (16000, 256, 32)):
        filters = mel_filters(rate, window, bands)
        assert filters.shape == (bands, window // 2 + 1)
        assert torch.allclose(filters.sum(1), torch.ones(bands))


def test_clips_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="equally long"):
        spectral_distance(tone(), tone()[:-1], RATE)
    with pytest.raises(InputError, match="must both be"):
        signal_to_distortion(tone()[None], tone()[None])
    with pytest.raises(InputError, match="silent"):
        spectral_distance(torch.zeros(RATE), tone(), RATE)
