"""Decoding a clip's picture and sound by the released autoencoders' shapes, whole and in tiles, at 360p and 720p."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from benchmarks.gpu.context import Context
from benchmarks.timing import forget_peak, peak_bytes, timed
from phonofilm.models.audio_vae import DAC
from phonofilm.pipeline.decode import decode_video

CHANNELS = 16
AUDIO_CHANNELS, AUDIO_LATENTS = 128, 403
# Latent frames, rows, columns. 720p is measured over half the frames, which take half the time: they pass one by one.
CLIPS = {"360p": (49, 44, 80), "720p": (25, 90, 160)}
TINY = {"tiny": (2, 4, 6)}


@torch.no_grad()
def decode(context: Context) -> None:
    """The picture, whole and in tiles, and with channels last; then the sound."""
    _pictures(context, _video_vae(context))
    forget_peak(context.device)
    _sound(context, _audio_vae(context))


def _pictures(context: Context, vae: Any) -> None:
    clips = TINY if context.tiny else CLIPS
    for name, tiled in product(clips, (False, True)):
        _picture(context, vae, name, clips[name], tiled, channels_last=False)
    first = next(iter(clips))
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    _picture(context, vae, first, clips[first], tiled=False, channels_last=True)


def _picture(
    context: Context, vae: Any, name: str, shape: tuple[int, int, int], tiled: bool, channels_last: bool
) -> None:
    (vae.enable_tiling if tiled else vae.disable_tiling)()
    latents = torch.randn(1, CHANNELS, *shape, device=context.device)
    decode_video(vae, latents[:, :, :2])  # kernels are chosen by shape, and frames pass one by one
    forget_peak(context.device)
    seconds = timed(lambda: decode_video(vae, latents), context.device)
    figures = {"seconds": seconds, "frames": 4 * shape[0] - 3, "tiled": tiled, "channels_last": channels_last}
    context.row(f"picture at {name}", {**figures, **peak_bytes(context.device)})


def _sound(context: Context, vae: DAC) -> None:
    latents = torch.randn(1, vae.latent_dim, 9 if context.tiny else AUDIO_LATENTS, device=context.device)
    vae.decode(latents)
    forget_peak(context.device)
    seconds = timed(lambda: vae.decode(latents), context.device)
    context.row("sound", {"seconds": seconds, **peak_bytes(context.device)})


def _video_vae(context: Context) -> Any:
    """The released sizes are the class's defaults."""
    small = {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1} if context.tiny else {}
    with context.device:
        return AutoencoderKLWan(z_dim=CHANNELS, **small).to(context.dtype).eval().requires_grad_(False)


def _audio_vae(context: Context) -> DAC:
    """Float32, as the pipeline runs it."""
    encoder, decoder, latent = (4, 64, 8) if context.tiny else (128, 2048, AUDIO_CHANNELS)
    with context.device:
        vae = DAC(
            encoder_dim=encoder,
            encoder_rates=(2, 3, 4, 5, 8),
            latent_dim=latent,
            decoder_dim=decoder,
            decoder_rates=(8, 5, 4, 3, 2),
            sample_rate=48000,
        )
    vae.eval().requires_grad_(False)
    result: DAC = vae
    return result
