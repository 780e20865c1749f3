"""The video VAE's stage: its one-pass forward agrees with diffusers, it starts as a picture VAE, learns and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from phonofilm.models.convolutions import channels_last
from phonofilm.models.one_pass import OnePass
from phonofilm.nano.world import make_clip
from recipes.nano.video_vae.reconstruction import held_out_frames, measure_reconstruction, named_colour, to_pixels
from recipes.nano.video_vae.train_loop import busy_pixels
from recipes.nano.video_vae.train_video_vae import Phase, VideoVaeConfig, build_video_vae, train_video_vae

TINY = VideoVaeConfig(
    size=16,
    num_frames=9,
    base_dim=4,
    decoder_base_dim=8,
    latent_channels=4,
    max_steps=6,
    phases=(Phase(0.4, 1, 3), Phase(0.3, 5, 2), Phase(0.3, 9, 2)),
    bank_clips=4,
    statistics_clips=3,
    condition_share=0.5,
    autocast=False,
    held_out=1,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def restless(config: VideoVaeConfig) -> AutoencoderKLWan:
    """A VAE all of whose weights matter: with fresh ones, wrong temporal taps would go unnoticed."""
    vae = build_video_vae(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return vae.eval()


def test_channels_last_changes_the_layout_and_no_number() -> None:
    vae = restless(TINY)
    pixels = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    with torch.no_grad():
        before = OnePass(vae).encode(pixels)[0]
        channels_last(vae)
        torch.testing.assert_close(OnePass(vae).encode(pixels)[0], before, rtol=1e-5, atol=1e-5)


def test_it_starts_as_a_picture_vae_with_little_noise() -> None:
    vae = build_video_vae(TINY)
    picture = torch.rand(1, 3, 1, 16, 16) * 2 - 1
    with torch.no_grad():
        mean, logvar = OnePass(vae).encode(picture.expand(-1, -1, 9, -1, -1))
    assert logvar.max() < -5
    torch.testing.assert_close(mean[:, :, 2], mean[:, :, 0])  # a still clip has still latents


def test_busy_pixels_are_edges_and_movement() -> None:
    frames = torch.full((1, 3, 8, 8, 3), 100, dtype=torch.uint8)
    assert not busy_pixels(frames).any()
    frames[:, :, :, 4:] = 200
    edges = busy_pixels(frames)
    assert edges[0, 0, :, 3:5].all()
    assert not edges[0, 0, :, :3].any()
    frames[:, 2, 0, 0] = 120
    assert busy_pixels(frames)[0, 2, 0, 0] == 1


def test_colour_is_named_by_what_stands_where_the_truth_has_it() -> None:
    clip = make_clip(5, scene="ball")
    last, colour = clip.frames[-1], clip.attributes["colour"]
    assert named_colour(last, last, colour) == colour
    assert named_colour(np.full_like(last, 128), last, colour) == "none"
    other = make_clip(5, scene="ball").frames[-1][..., ::-1]
    if colour in ("red", "blue"):
        assert named_colour(np.ascontiguousarray(other), last, colour) != colour


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = train_video_vae(TINY, tmp_path / "whole")
    calls = iter(range(100))
    train_video_vae(TINY, tmp_path / "halves", should_stop=lambda: next(calls) == 2)
    assert not (tmp_path / "halves" / "video_vae").exists()
    halves = train_video_vae(TINY, tmp_path / "halves")
    one, two = (AutoencoderKLWan.from_pretrained(folder) for folder in (whole, halves))
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_finished_vae_normalises_its_own_latents(tmp_path: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(train_video_vae(TINY, tmp_path))
    latents = []
    for seed in range(TINY.statistics_clips):
        clip = make_clip(seed, size=16, num_frames=9)
        with torch.no_grad():
            latents.append(vae.encode(to_pixels(torch.from_numpy(clip.frames[None]))).latent_dist.mean[0].flatten(1))
    stacked = torch.cat(latents, 1)
    torch.testing.assert_close(torch.tensor(vae.config.latents_mean), stacked.mean(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.tensor(vae.config.latents_std), stacked.std(1), rtol=1e-3, atol=1e-4)
    assert (tmp_path / "log.csv").exists()
    assert list(tmp_path.glob("sheet_*.png"))
    result = measure_reconstruction(vae, held_out_frames(1, size=16, num_frames=9))
    assert 0 < result.psnr < 60


@pytest.mark.slow
def test_a_short_training_beats_a_flat_picture_by_far(tmp_path: Path) -> None:
    config = VideoVaeConfig(max_steps=150, bank_clips=200, statistics_clips=8, held_out=4, threads=2)
    vae = AutoencoderKLWan.from_pretrained(train_video_vae(config, tmp_path))
    clips = held_out_frames(4)
    errors = [np.var(clip.frames.astype(np.float64), axis=(0, 1, 2)).mean() for clip in clips]
    flat = np.mean([10 * np.log10(255**2 / error) for error in errors])  # each clip's own mean colour: 12.4 dB
    # Less than half of its squared error. 17.6 dB on one processor; how far 150 updates come differs by its rounding.
    assert measure_reconstruction(vae, clips).psnr > flat + 10 * np.log10(2)
