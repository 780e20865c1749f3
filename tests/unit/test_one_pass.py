"""Autoencoders over whole clips are what diffusers computes in chunks, and are taken where that is the same and faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from phonofilm.models import one_pass
from phonofilm.models.one_pass import EXACT, OnePass, one_pass_fits
from phonofilm.pipeline.conditions import encode_video, normalize
from phonofilm.pipeline.decode import decode_video
from phonofilm.runtime.component_offload import ComponentOffload

SIZES: dict[str, dict[str, Any]] = {
    # The embedded model's: three levels on patches. The released one's: four levels, the first kept in time.
    "patches": {
        "dim_mult": [1, 2, 4],
        "temperal_downsample": [True, True],
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "decoder_base_dim": 8,
    },
    "released": {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]},
}


def restless(name: str) -> AutoencoderKLWan:
    """An autoencoder all of whose weights and statistics matter."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 0.7, 1.0, 2.0]}
    vae = AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=1, **SIZES[name], **statistics)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    result: AutoencoderKLWan = vae.eval()
    return result


@pytest.mark.parametrize(
    ("name", "frames", "slow_below"),
    [("patches", 1, 20480), ("patches", 7, 20480), ("patches", 17, 0), ("released", 9, 20480), ("released", 9, 0)],
)
@torch.no_grad()
def test_one_pass_is_what_diffusers_computes_in_chunks(
    name: str, frames: int, slow_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_pass, "SLOW_BELOW", slow_below)  # both ways to convolve
    vae = restless(name)
    net = OnePass(vae, eps=EXACT)
    pixels = torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = vae.encode(pixels).latent_dist
    mean, logvar = net.encode(pixels)
    torch.testing.assert_close(mean, expected.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar, expected.logvar, rtol=0, atol=1e-5)
    torch.testing.assert_close(net.decode(mean).clamp(-1, 1), vae.decode(mean).sample, rtol=0, atol=1e-5)


@torch.no_grad()
def test_small_clips_go_through_at_once_on_a_cpu_and_come_out_the_same() -> None:
    vae = restless("patches")
    pixels = torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    latents = normalize(vae, vae.encode(pixels).latent_dist.mode())
    calls: list[str] = []
    torch.testing.assert_close(encode_video(vae, pixels, torch.device("cpu")), latents, rtol=0, atol=1e-5)
    frames = decode_video(vae, latents)
    # With a hook in it the autoencoder runs by itself, chunk by chunk, so that the hook sees what it expects.
    vae.decoder.register_forward_pre_hook(lambda *_: calls.append("decoder"))
    torch.testing.assert_close(decode_video(vae, latents), frames, rtol=0, atol=1e-5)
    assert len(calls) == 2 * latents.shape[2]


def test_what_is_large_tiled_or_not_float32_stays_with_diffusers() -> None:
    vae, like = restless("patches"), torch.zeros(1)
    assert one_pass_fits(vae, 64 * 64 * 49, like)
    assert not one_pass_fits(vae, 1280 * 720 * 193, like)
    assert not one_pass_fits(torch.nn.Linear(1, 1), 64, like)
    assert not one_pass_fits(vae, 64, like.to("meta"))
    offload = ComponentOffload(vae, torch.device("cpu"))
    assert one_pass_fits(vae, 64, like)  # the weights are where they run
    offload.remove()
    assert one_pass_fits(vae, 64, like)
    ComponentOffload(vae, torch.device("meta"))
    assert not one_pass_fits(vae, 64, like)
    vae = restless("patches")
    vae.enable_tiling()
    assert not one_pass_fits(vae, 64, like)
    assert not one_pass_fits(restless("patches").bfloat16(), 64, like)
