"""What the metrics' networks hear and see: against other definitions, written out anew here, and numbers of the originals."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.unit.seeded_weights import seeded_input

from phonofilm.evaluation.features.mfcc import mfcc
from phonofilm.evaluation.features.resampling import sinc_resample
from phonofilm.evaluation.features.resizing import crop_centre, crop_three, resize_short_side
from phonofilm.evaluation.features.spectrograms import (
    MelScale,
    decibels,
    kaldi_filter_bank,
    mel_spectrogram,
)

SCALE = MelScale(16_000, 1024, 400, 160, 128, 0.0, 8000.0)
# What torchaudio 2.11 and torchvision 0.29 make of the same inputs.
MEL = [47.03190994262695, 702.0733032226562, 2232.021728515625]
LEVELS = [6.7842206954956055, 7.624141693115234, 16.680801391601562]
BANKS = [-6.9126129150390625, -0.7315055131912231, 3.7052760124206543]
PIXELS = [[102, 106, 138], [100, 121, 154], [148, 214, 172]]
PIXEL_SUM = 19_203_405


def test_cepstra_are_those_of_python_speech_features() -> None:
    noise = np.random.default_rng(0).normal(0, 3000, 16000).astype(np.int16)
    found = mfcc(noise, 16_000)
    assert found.shape == (99, 13)
    np.testing.assert_allclose(found[0, :3], [21.97337306, -37.1683707, -10.45319401], atol=1e-6)


@pytest.mark.parametrize("samples", [1, 400, 401, 8013])
def test_cepstra_agree_with_the_definition_written_out_in_loops(samples: int) -> None:
    wave = np.random.default_rng(samples).normal(0, 3000, samples).astype(np.int16)
    np.testing.assert_allclose(mfcc(wave, 16_000), _cepstra_in_loops(wave, 16_000), atol=1e-6)


def _cepstra_in_loops(wave: np.ndarray, rate: int) -> np.ndarray:
    signal = [float(wave[0])] + [float(b) - 0.97 * float(a) for a, b in pairwise(wave)]
    count = 1 if len(signal) <= 400 else 1 + math.ceil((len(signal) - 400) / 160)
    signal += [0.0] * ((count - 1) * 160 + 400 - len(signal))
    mel = [2595 * math.log10(1 + rate / 1400) * i / 27 for i in range(28)]
    edges = [math.floor(513 * 700 * (10 ** (m / 2595) - 1) / rate) for m in mel]
    rows = []
    for frame in range(count):
        power = np.abs(np.fft.rfft(signal[frame * 160 : frame * 160 + 400], 512)) ** 2 / 512
        bands = []
        for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False):
            up = sum(power[k] * (k - low) / (peak - low) for k in range(low, peak))
            down = sum(power[k] * (high - k) / (high - peak) for k in range(peak, high))
            bands.append(math.log(up + down))
        cosine = [
            sum(b * math.cos(math.pi * n * (2 * k + 1) / 52) for k, b in enumerate(bands)) * math.sqrt(2 / 26)
            for n in range(13)
        ]
        row = [c * (1 + 11 * math.sin(math.pi * n / 22)) for n, c in enumerate(cosine)]
        rows.append([math.log(power.sum()), *row[1:]])
    return np.array(rows)


def test_digital_silence_has_finite_cepstra() -> None:
    assert np.isfinite(mfcc(np.zeros(1600, np.int16), 16_000)).all()


def test_resampling_equals_torchaudio() -> None:
    wave = seeded_input(30_011)
    expected = {
        (48_000, 16_000): [0.49156293272972107, -0.1473212093114853, 0.010597839020192623],
        (44_100, 16_000): [-0.118931345641613, -0.16738013923168182, 0.3578246235847473],
        (16_000, 48_000): [-1.0721726417541504, 0.46541616320610046, 1.4378200769424438],
    }
    for (rate, target), values in expected.items():
        found = sinc_resample(wave, rate, target)
        assert len(found) == math.ceil(30_011 * target / rate)
        torch.testing.assert_close(found[1000:1003], torch.tensor(values), rtol=0, atol=1e-6)


def test_a_resampled_tone_keeps_its_pitch_and_height() -> None:
    time = torch.arange(48_000) / 48_000
    found = sinc_resample(torch.sin(2 * math.pi * 440 * time), 48_000, 16_000)
    wanted = torch.sin(2 * math.pi * 440 * torch.arange(16_000) / 16_000)
    assert (found - wanted)[100:-100].abs().max() < 2e-3


def test_mel_spectrograms_equal_torchaudio() -> None:
    found = mel_spectrogram(seeded_input(3, 10_240), SCALE)
    assert found.shape == (3, 128, 65)
    torch.testing.assert_close(found[2, [0, 50, 127], 30], torch.tensor(MEL), rtol=1e-5, atol=1e-5)
    clap = MelScale(48_000, 1024, 1024, 480, 64, 50.0, 14_000.0)
    levels = decibels(mel_spectrogram(seeded_input(48_000) * 0.1, clap))
    torch.testing.assert_close(levels[[0, 30, 63], 50], torch.tensor(LEVELS), rtol=1e-5, atol=1e-5)


def test_filter_banks_equal_kaldi() -> None:
    found = kaldi_filter_bank(seeded_input(32_000) * 0.1)
    assert found.shape == (198, 128)
    torch.testing.assert_close(found[100, [0, 60, 127]], torch.tensor(BANKS), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="at least 400"):
        kaldi_filter_bank(torch.zeros(399))


@pytest.mark.parametrize(
    ("size", "resized"), [((352, 624), (224, 397)), ((300, 200), (336, 224)), ((224, 224), (224, 224))]
)
def test_the_shorter_side_becomes_the_size_that_was_asked(size: tuple[int, int], resized: tuple[int, int]) -> None:
    frames = torch.full((2, 3, *size), 77, dtype=torch.uint8)
    found = resize_short_side(frames, 224)
    assert found.shape == (2, 3, *resized)
    assert (found == 77).all()


def test_resizing_equals_torchvision() -> None:
    frames = torch.randint(0, 256, (1, 3, 352, 624), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = crop_centre(resize_short_side(frames, 224), 224)
    assert found[0, :, 100, 50:53].tolist() == PIXELS
    assert int(found.sum()) == PIXEL_SUM


def test_three_crops_are_the_ends_and_the_middle_of_the_longer_side() -> None:
    ramp = torch.arange(10.0).expand(1, 4, 10)
    assert [crop[0, 0, 0].item() for crop in crop_three(ramp, 4)] == [0, 3, 6]
    assert [crop[0, 0, 0].item() for crop in crop_three(ramp.transpose(1, 2), 4)] == [0, 3, 6]
