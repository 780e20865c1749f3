"""Hearing when sounds begin: clicks to the millisecond, the world's events within a frame, nothing in silence or noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from phonofilm.evaluation.sync import match
from phonofilm.media.onsets import onset_times
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, make_clip

RATE = 16000


def clicks(times: list[float], rate: int = RATE, seconds: float = 2.0) -> NDArray[np.float64]:
    wave = np.zeros(int(seconds * rate))
    for i, time in enumerate(times):
        t = np.arange(int(0.05 * rate)) / rate
        start = round(time * rate)
        burst = (0.8 - 0.15 * i) * np.sin(2 * np.pi * 700 * (1 + i) * t + 1) * np.exp(-t / 0.01)
        wave[start : start + len(t)] += burst[: len(wave) - start]
    return wave


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_clicks_are_heard_within_three_milliseconds(rate: int, noise: float) -> None:
    times = [0.1, 0.437, 1.0, 1.613]
    wave = clicks(times, rate) + noise * np.random.default_rng(0).standard_normal(2 * rate)
    heard = onset_times(wave, rate)
    assert len(heard) == len(times)
    assert np.abs(heard - times).max() < 0.003


def test_onsets_do_not_depend_on_loudness_or_channels() -> None:
    wave = clicks([0.3, 0.9])
    assert onset_times(0.05 * wave, RATE) == pytest.approx(onset_times(wave, RATE), abs=1e-4)
    assert onset_times(np.stack([wave, wave]), RATE) == pytest.approx(onset_times(wave, RATE))


def test_silence_and_an_empty_clip_have_no_onsets() -> None:
    assert len(onset_times(np.zeros(RATE), RATE)) == 0
    assert len(onset_times(1e-4 * clicks([0.5]), RATE)) == 0
    assert len(onset_times(np.zeros(0), RATE)) == 0


def test_a_steady_tone_begins_once_and_its_cut_end_is_no_onset() -> None:
    t = np.arange(2 * RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * t) * (t > 0.5)
    heard = onset_times(tone, RATE)
    assert heard == pytest.approx([0.5], abs=0.003)


def test_a_sound_that_begins_with_the_clip_is_heard_at_zero() -> None:
    assert onset_times(clicks([0.0, 1.0]), RATE)[0] == pytest.approx(0.0, abs=0.003)


def test_noise_behind_a_click_adds_few_onsets() -> None:
    wave = clicks([0.5]) + 0.01 * np.random.default_rng(1).standard_normal(2 * RATE)
    heard = onset_times(wave, RATE)
    assert np.abs(heard - 0.5).min() < 0.003
    assert len(heard) <= 2


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_events_of_the_world_are_heard_within_a_frame(scene: str) -> None:
    lags: list[float] = []
    events = extras = 0
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 8):
        clip = make_clip(seed, scene=scene, size=16)
        matching = match([e.time for e in clip.events], onset_times(clip.audio, clip.sampling_rate))
        lags += matching.lags
        events += matching.events
        extras += matching.extras
    assert sum(abs(lag) <= 1 / 24 for lag in lags) / events > 0.95
    assert float(np.median(np.abs(lags))) <= 0.010
    assert extras <= 0.05 * events
