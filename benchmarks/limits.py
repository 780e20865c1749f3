"""What this machine could do at best: matrix products and copies, measured bare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.timing import timed
from benchmarks.workload import Workload
from phonofilm.kernels.fp8_support import has_fp8
from phonofilm.models.eight_bit_rows import multiply_fp8, quantize_activations, quantize_rows

TRIES = 8
COPIED = 1 << 28


@dataclass(frozen=True)
class Limits:
    """Measured on this machine: FLOPs per second of large matrix products, in the model's dtype and in fp8 (None where
    the device has none), and bytes per second from host to device (None where they are the same)."""

    flops: float
    link: float | None
    fp8_flops: float | None = None

    def seconds(self, flops: int, streamed_bytes: int = 0, fp8_flops: int = 0) -> float:
        """No step of `flops`, of which `fp8_flops` may be done in fp8, is faster than its products, nor than its copies."""
        copying = 0.0 if self.link is None else streamed_bytes / self.link
        return max((flops - fp8_flops) / self.flops + fp8_flops / (self.fp8_flops or self.flops), copying)


def measure_limits(workload: Workload) -> Limits:
    """The best of several products shaped like the model's widest, and of several copies from pinned memory."""
    dtype = workload.dtype
    config = workload.denoiser.video.config
    tokens, width, wide = workload.video_tokens, config["dim"], config["ffn_dim"]
    left = torch.randn(tokens, width, device=workload.device, dtype=dtype)
    right = torch.randn(wide, width, device=workload.device, dtype=dtype)
    flops = 2 * tokens * width * wide
    rate = flops / _best(lambda: left @ right.t(), workload.device)
    if workload.device.type != "cuda":
        return Limits(rate, None)
    host = torch.empty(COPIED, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(host, device=workload.device)
    link = COPIED / _best(lambda: target.copy_(host, non_blocking=True), workload.device)
    if not has_fp8(workload.device):
        return Limits(rate, link)
    rows, (weight, scale) = quantize_activations(left, fused=False), quantize_rows(right, "fp8")
    return Limits(rate, link, flops / _best(lambda: multiply_fp8(rows, weight, scale, None), workload.device))


def _best(work: Callable[[], Any], device: torch.device) -> float:
    return min(timed(work, device) for _ in range(TRIES))
