"""The audio VAE's stage: it learns, resumes exactly, standardises its latents without changing what is decoded."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from phonofilm.errors import InputError
from phonofilm.evaluation.audio_distances import spectral_distance
from phonofilm.models.audio_vae import DAC
from phonofilm.nano.world import make_clip
from recipes.nano.audio_vae.finish import fold_standardisation, latent_statistics
from recipes.nano.audio_vae.sound_bank import SoundBank, render_bank
from recipes.nano.audio_vae.train_audio_decoder import audible_distance
from recipes.nano.audio_vae.train_audio_vae import (
    AudioVaeConfig,
    AudioVaeTrainer,
    build_audio_vae,
    train_audio_vae,
    world_sound,
)
from recipes.nano.audio_vae.wave_loss import wave_loss

TINY = AudioVaeConfig(
    encoder_dim=4,
    rates=(4, 5),
    decoder_dim=16,
    latent_dim=4,
    train_clips=6,
    held_out_clips=2,
    watched_clips=1,
    crop_hops=64,
    batch_size=2,
    warmup_steps=5,
)


def beep(seed: int) -> NDArray[np.float32]:
    """Half a second with one tone in it, somewhere."""
    rng = np.random.default_rng(seed)
    t = np.arange(8000) / 16000
    start = rng.uniform(0.0, 0.3)
    envelope = np.clip((t - start) / 0.002, 0, 1) * np.exp(-np.maximum(t - start, 0) / 0.05)
    return (0.6 * envelope * np.sin(2 * np.pi * rng.uniform(300, 900) * t)).astype(np.float32)


@pytest.fixture
def bank(tmp_path: Path) -> SoundBank:
    render_bank(tmp_path / "bank.npy", range(TINY.train_clips), beep)
    return SoundBank.load(tmp_path / "bank.npy", TINY.crop_hops * TINY.hop, TINY.hop, TINY.even_share)


def test_a_few_steps_reduce_the_loss(bank: SoundBank) -> None:
    config = replace(TINY, max_steps=60, quiet_share=1e9, learning_rate=4e-3)
    trainer = AudioVaeTrainer(config, bank, torch.device("cpu"))
    losses = [trainer.step()["loss"] for _ in range(24)]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:4])


def test_a_resumed_run_equals_an_uninterrupted_one(bank: SoundBank, tmp_path: Path) -> None:
    config = replace(TINY, max_steps=6)
    straight = AudioVaeTrainer(config, bank, torch.device("cpu"))
    for _ in range(6):
        straight.step()
    first = AudioVaeTrainer(config, bank, torch.device("cpu"))
    for _ in range(3):
        first.step()
    first.save(tmp_path / "half.pt")
    second = AudioVaeTrainer(config, bank, torch.device("cpu"))
    second.step()  # whatever it held before must be gone after loading
    second.load(tmp_path / "half.pt")
    assert (second.steps, second.seconds) == (3, first.seconds)
    for _ in range(3):
        second.step()
    for ours, theirs in zip(second.vae.parameters(), straight.vae.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(second.average.parameters(), straight.average.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_folding_the_standardisation_is_exact(bank: SoundBank) -> None:
    vae, folded = build_audio_vae(TINY), build_audio_vae(TINY)
    mean, deviation = latent_statistics(vae, bank.clips)
    fold_standardisation(folded, mean, deviation)
    wave = torch.from_numpy(beep(99))[None, None]
    before, after = vae.encode(wave), folded.encode(wave)
    scale = deviation[:, None]
    torch.testing.assert_close(after.mean, (before.mean - mean[:, None]) / scale, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.logvar, before.logvar - 2 * scale.log(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(folded.decode(after.mean), vae.decode(before.mean), rtol=1e-4, atol=1e-5)
    new_mean, new_deviation = latent_statistics(folded, bank.clips)
    assert new_mean.abs().max() < 1e-4
    assert (new_deviation - 1).abs().max() < 1e-4


def test_the_stage_leaves_a_model_curves_and_metrics_and_can_be_called_again(tmp_path: Path) -> None:
    config = replace(TINY, max_steps=4, save_every_seconds=0.0)
    metrics = train_audio_vae(config, tmp_path, make_sound=beep)
    assert metrics.clips == 2
    vae = DAC.from_pretrained(tmp_path / "audio_vae")
    assert (vae.hop_length, vae.sampling_rate, vae.latent_dim) == (20, 16000, 4)
    mean, deviation = latent_statistics(vae, np.load(tmp_path / "train.npy"))
    assert mean.abs().max() < 1e-3
    assert (deviation - 1).abs().max() < 1e-3
    report = json.loads((tmp_path / "audio_vae" / "metrics.json").read_text())
    assert report["spectral_distance_db"] == metrics.spectral_distance_db
    assert len(report["latent_std_before"]) == 4
    rows = list(csv.DictReader((tmp_path / "audio_vae.csv").open()))
    assert [float(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert train_audio_vae(config, tmp_path, make_sound=beep) == metrics


def test_the_stage_stops_when_its_time_is_used_up(bank: SoundBank) -> None:
    trainer = AudioVaeTrainer(replace(TINY, budget_seconds=1e-6), bank, torch.device("cpu"))
    trainer.step()
    assert trainer.progress == 1.0


def test_learning_rate_and_ear_follow_the_schedule(bank: SoundBank) -> None:
    trainer = AudioVaeTrainer(replace(TINY, max_steps=100), bank, torch.device("cpu"))
    assert trainer.learning_rate() == pytest.approx(TINY.learning_rate / TINY.warmup_steps, rel=1e-3)
    assert trainer.quiet() == pytest.approx(TINY.first_quiet)
    trainer.steps = 100
    assert trainer.learning_rate() == pytest.approx(TINY.learning_rate * TINY.final_learning_rate)
    assert trainer.quiet() == pytest.approx(TINY.last_quiet)


def test_crops_prefer_sound_but_not_always(tmp_path: Path) -> None:
    sparse = np.zeros(16000, np.float32)
    sparse[12000:12800] = 0.5
    render_bank(tmp_path / "sparse.npy", range(1), lambda _: sparse)

    def share_with_sound(even_share: float) -> float:
        bank = SoundBank.load(tmp_path / "sparse.npy", crop=1600, hop=320, even_share=even_share)
        crops = bank.draw(400, torch.Generator().manual_seed(0))
        assert crops.shape == (400, 1, 1600)
        return float((crops.abs().amax((1, 2)) > 0).float().mean())

    assert share_with_sound(0.0) > 0.95
    assert share_with_sound(1.0) < 0.3


def test_a_rendered_bank_is_not_rendered_again_and_never_half_there(tmp_path: Path) -> None:
    render_bank(tmp_path / "bank.npy", range(2), beep)

    def fails(seed: int) -> NDArray[np.float32]:
        raise RuntimeError("rendered again")

    render_bank(tmp_path / "bank.npy", range(2), fails)
    with pytest.raises(RuntimeError, match="rendered again"):
        render_bank(tmp_path / "bank.npy", range(3), fails)
    assert np.load(tmp_path / "bank.npy").shape == (2, 8000)


def test_crops_longer_than_the_clips_are_refused(tmp_path: Path) -> None:
    render_bank(tmp_path / "bank.npy", range(1), beep)
    with pytest.raises(InputError, match="shorter than a crop"):
        SoundBank.load(tmp_path / "bank.npy", crop=9000, hop=320, even_share=0.5)


def test_the_world_sounds_the_same_however_small_it_is_drawn() -> None:
    assert np.array_equal(world_sound(5, 16000), make_clip(5).audio)


def test_loss_is_zero_for_the_same_wave_and_hears_quiet_only_when_asked() -> None:
    wave = torch.from_numpy(np.stack([beep(0), beep(1)]))[:, None]
    same = wave_loss(wave, wave, 16000, 1e-3)
    assert (float(same.spectral), float(same.mel), float(same.wave)) == (0.0, 0.0, 0.0)
    hum = wave + 1e-3 * torch.sin(torch.arange(8000) * 2 * torch.pi * 3000 / 16000)
    deaf, sharp = (wave_loss(wave, hum, 16000, quiet) for quiet in (0.03, 2e-4))
    assert float(sharp.mel) > 5 * float(deaf.mel)


def test_the_decoder_learns_from_the_distance_it_is_measured_by() -> None:
    generator = torch.Generator().manual_seed(4)
    wave = torch.randn(1, 1, 8000, generator=generator)
    other = (wave + 0.1 * torch.randn(1, 1, 8000, generator=generator)).requires_grad_()
    distance = audible_distance(wave, other, 16000)
    distance.backward()
    assert float(distance.detach()) == pytest.approx(
        spectral_distance(wave[0, 0], other.detach()[0, 0], 16000), rel=1e-4
    )
    assert other.grad is not None
    assert bool(other.grad.isfinite().all())
