"""What everyone in the benchmark runs: one model with random weights, one guided step's inputs, and the machine's limits.

Shapes: n video tokens, m audio tokens, l text positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phonofilm.errors import InputError
from phonofilm.evaluation.flops import forward_flops
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layerwise import Moment, Variant
from phonofilm.models.video import Grid, WanModel
from phonofilm.runtime.released import released_denoiser

TEXT_TOKENS = 512
EVALUATIONS = 2


@dataclass(frozen=True)
class Size:
    """Sizes of the model and of the clip. `grid`: video tokens by (frame, row, column). `what`: in words."""

    name: str
    what: str
    grid: Grid
    audio_tokens: int
    released: bool = True


SIZES = {
    size.name: size
    for size in (
        Size("tiny", "8 layers of 384/192, 49 frames of 128x128", (13, 8, 8), 102, released=False),
        Size("360p", "the released sizes, 193 frames of 640x352", (49, 22, 40), 403),
        Size("360p-17", "the released sizes, 17 frames of 640x352", (5, 22, 40), 36),
        Size("720p", "the released sizes, 193 frames of 1280x720", (49, 45, 80), 403),
    )
}


@dataclass(frozen=True)
class Bed:
    """`denoiser` waits in host memory; `moment` and `variants` are one guided step's inputs on `device`."""

    size: Size
    device: torch.device
    denoiser: JointDenoiser
    moment: Moment
    variants: tuple[Variant, ...]

    @property
    def flops(self) -> int:
        """FLOPs of the step, by the formula."""
        frames, rows, columns = self.size.grid
        tokens = frames * rows * columns
        return EVALUATIONS * forward_flops(self.denoiser, tokens, self.size.audio_tokens, TEXT_TOKENS).total

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.denoiser.parameters())


def make_bed(size: Size, device: torch.device, dtype: torch.dtype) -> Bed:
    """Random weights and inputs, the same for the same size and dtype."""
    shapes = released_denoiser() if size.released else _tiny_denoiser()
    denoiser = shapes.to(dtype).to_empty(device="cpu").requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in denoiser.named_parameters():
        if parameter.ndim < 2:
            nn.init.constant_(parameter, float(name.endswith("weight")))
        else:
            # Drawing 18 billion normal numbers on one core takes minutes; the values only have to be harmless.
            drawn = torch.empty(min(parameter.numel(), 1 << 20)).normal_(0, 0.02, generator=generator).to(dtype)
            flat = parameter.data.flatten()
            for start in range(0, flat.numel(), drawn.numel()):
                flat[start : start + drawn.numel()] = drawn[: flat.numel() - start]
            parameter.data.copy_(flat.view_as(parameter))
    frames, rows, columns = size.grid
    _, step_h, step_w = denoiser.video.patch_size
    video = torch.randn(
        1, denoiser.video.config["in_dim"], frames, rows * step_h, columns * step_w, generator=generator
    )
    audio = torch.randn(1, denoiser.audio.config["in_dim"], size.audio_tokens, generator=generator)
    text = [
        torch.randn(1, TEXT_TOKENS, denoiser.video.config["text_dim"], generator=generator) for _ in range(EVALUATIONS)
    ]
    moment = Moment(
        video.to(device),
        audio.to(device),
        torch.tensor(900.0),
        torch.tensor(900.0),
        24.0,
        denoiser.positions(size.grid, size.audio_tokens, 24.0, device),
    )
    return Bed(size, device, denoiser, moment, tuple(Variant(one.to(device, dtype)) for one in text))


def size_named(name: str) -> Size:
    """Raises InputError for a size there is not."""
    if name not in SIZES:
        raise InputError(f"size {name!r} is unknown; use one of {', '.join(SIZES)}")
    return SIZES[name]


@dataclass(frozen=True)
class Limits:
    """Measured on this machine: FLOPs per second of large matrix products, bytes per second from host to device."""

    flops: float
    link: float | None

    def seconds(self, flops: int, streamed_bytes: int = 0) -> float:
        """No step can be faster than its products, nor than its copies."""
        copying = 0.0 if self.link is None else streamed_bytes / self.link
        return max(flops / self.flops, copying)


def measure_limits(bed: Bed) -> Limits:
    """The best of several products shaped like the model's widest, and of several copies from pinned memory."""
    dtype = next(bed.denoiser.parameters()).dtype
    config = bed.denoiser.video.config
    frames, rows, columns = bed.size.grid
    tokens = frames * rows * columns
    left = torch.randn(tokens, config["dim"], device=bed.device, dtype=dtype)
    right = torch.randn(config["dim"], config["ffn_dim"], device=bed.device, dtype=dtype)
    seconds = min(timed(lambda: left @ right, bed.device) for _ in range(8))
    flops = 2 * tokens * config["dim"] * config["ffn_dim"] / seconds
    if bed.device.type != "cuda":
        return Limits(flops, None)
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(host, device=bed.device)
    copying = min(timed(lambda: target.copy_(host, non_blocking=True), bed.device) for _ in range(8))
    return Limits(flops, host.numel() / copying)


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds until everything `work` gave the device is done."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def largest_difference(ours: list[Tensor], reference: list[Tensor]) -> float:
    """The largest difference of any value, relative to the largest reference value."""
    return max(
        float((a.float() - b.float()).abs().max() / b.float().abs().max()) for a, b in zip(ours, reference, strict=True)
    )


def _tiny_denoiser() -> JointDenoiser:
    shared: dict[str, Any] = {"text_dim": 128, "freq_dim": 64, "eps": 1e-6, "num_layers": 8}
    with torch.device("meta"):
        return JointDenoiser(
            WanModel(dim=384, in_dim=36, ffn_dim=1536, out_dim=16, patch_size=(1, 2, 2), num_heads=8, **shared),
            WanAudioModel(
                dim=192, in_dim=32, ffn_dim=768, out_dim=32, patch_size=(1,), num_heads=4, vae_type="dac", **shared
            ),
            DualTowerConditionalBridge(
                visual_layers=8,
                audio_layers=8,
                visual_hidden_dim=384,
                audio_hidden_dim=192,
                audio_fps=50.0,
                head_dim=48,
                interaction_strategy="full",
                apply_cross_rope=True,
            ),
        )
