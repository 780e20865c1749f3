"""How long a clip of the embedded model takes on a CPU: its FLOPs, counted, over rates that are measured here in a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from phonofilm.geometry import ClipGeometry
from phonofilm.models.joint import TEXT_LENGTH, JointDenoiser
from phonofilm.runtime.flops import forward_flops
from phonofilm.units import format_duration

PROBE_TOKENS = 2048
PROBE_PIXELS = 64
PROBE_CHANNELS = 24  # the base width of its decoder, where most of its time goes
REPEATS = 5
WORTH_SAYING = 60.0
"""Seconds: what takes less is not announced."""
DECODER_FLOPS = 108_000
"""Of its picture decoder, per pixel and frame: counted at 64x64 to 624x352, 49 to 193 frames."""
OVERHEAD = 1.25
"""Norms, rotations and copies beside the products that are counted: measured for the embedded model on one thread at 832
and 1600 video tokens, where steps took 1.2 to 1.4 times what the products alone would."""


@dataclass(frozen=True)
class Rates:
    """FLOP/s of linear layers, of attention and of convolutions."""

    linear: float
    attention: float
    convolution: float


@torch.no_grad()
def measure_rates(denoiser: JointDenoiser) -> Rates:
    """This CPU's rates in float32 at the widths of `denoiser`'s video tower and of the decoder: of one thread, undisturbed."""
    config = denoiser.video.config
    width, heads = int(config["dim"]), int(config["num_heads"])
    states, weight = torch.randn(PROBE_TOKENS, width), torch.randn(int(config["ffn_dim"]), width)
    query = torch.randn(1, heads, PROBE_TOKENS, width // heads)
    picture = torch.randn(1, PROBE_CHANNELS, 3, PROBE_PIXELS, PROBE_PIXELS)
    kernel = torch.randn(PROBE_CHANNELS, PROBE_CHANNELS, 3, 3, 3)
    return Rates(
        2 * weight.numel() * PROBE_TOKENS / _fastest(lambda: F.linear(states, weight)),
        4 * PROBE_TOKENS**2 * width / _fastest(lambda: F.scaled_dot_product_attention(query, query, query)),
        2 * kernel.numel() * PROBE_PIXELS**2 / _fastest(lambda: F.conv3d(picture, kernel, padding=(0, 1, 1))),
    )


def clip_seconds(denoiser: JointDenoiser, geometry: ClipGeometry, forwards: int, rates: Rates) -> float:
    """Seconds of `forwards` evaluations and of decoding the picture."""
    flops = forward_flops(denoiser, geometry.video_tokens, geometry.audio_latents, TEXT_LENGTH)
    attention = flops.video_self_attention + flops.video_text_attention + flops.bridge_attention
    sampling = forwards * ((flops.total - attention) / rates.linear + attention / rates.attention)
    decoding = DECODER_FLOPS * geometry.height * geometry.width * geometry.num_frames / rates.convolution
    return OVERHEAD * sampling + decoding


def announcement(seconds: float, geometry: ClipGeometry) -> str | None:
    """ "193 frames at 624x352 on this CPU: about 50 min", or None for what is soon done."""
    if seconds < WORTH_SAYING:
        return None
    minutes = seconds / 60
    step = 1 if minutes < 10 else 5 if minutes < 60 else 10
    about = format_duration(60 * step * round(minutes / step)).removesuffix(" 0 s").removesuffix(" 0 min")
    return f"{geometry.num_frames} frames at {geometry.width}x{geometry.height} on this CPU: about {about}"


def _fastest(work: Callable[[], Any]) -> float:
    """Seconds of this process, over all its threads: what other processes take does not count."""
    work()
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return max(min(times), 1e-6)
