"""The video autoencoder convolves channels-last on GPUs: another layout, and no other number."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.conftest import Golden
from torch import Tensor

from phonofilm.models.convolutions import channels_last, channels_last_on_gpu
from phonofilm.pipeline.conditions import encode_video
from phonofilm.pipeline.decode import decode_video
from phonofilm.pipeline.mova import MovaPipeline

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last_3d) and not weight.is_contiguous()


def test_encoding_and_decoding_are_the_same_to_rounding(basic: Golden) -> None:
    vae = MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.float32).video_vae
    pixels = torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = encode_video(vae, pixels, CPU)
        frames = decode_video(vae, latents)
        assert not is_channels_last(vae.decoder.conv_in.weight)
        channels_last(vae)
        assert is_channels_last(vae.decoder.conv_in.weight)
        torch.testing.assert_close(encode_video(vae, pixels, CPU), latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decode_video(vae, latents), frames, rtol=1e-4, atol=1e-5)


def test_only_what_runs_on_a_gpu_is_laid_out_so_and_its_layout_travels(basic: Golden, tmp_path: Path) -> None:
    pipe = MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.float32)
    weight, before = pipe.video_vae.decoder.conv_in.weight, pipe.video_vae.decoder.conv_in.weight.clone()
    channels_last_on_gpu(pipe.video_vae, CPU)
    assert weight.is_contiguous()
    channels_last_on_gpu(pipe.video_vae, GPU)
    assert is_channels_last(weight)
    assert is_channels_last(weight.to(torch.bfloat16))
    assert torch.equal(weight, before)
    pipe.save_pretrained(tmp_path / "saved")
    again = MovaPipeline.from_pretrained(tmp_path / "saved", torch_dtype=torch.float32)
    assert torch.equal(again.video_vae.decoder.conv_in.weight, before)
