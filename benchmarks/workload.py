"""What everyone in the benchmark runs: one model with random weights, and one guided step's inputs.

Shapes: n video tokens, m audio tokens, l text positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.sizes import Size
from phonofilm.evaluation.flops import ForwardFlops, forward_flops
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.shared_forward import Conditioning, StepInputs

TEXT_TOKENS = 512
EVALUATIONS = 2


@dataclass(frozen=True)
class Workload:
    """`denoiser` waits in host memory; `inputs` and `conditionings` are one guided step's inputs on `device`."""

    size: Size
    device: torch.device
    denoiser: JointDenoiser
    inputs: StepInputs
    conditionings: tuple[Conditioning, ...]

    @property
    def video_tokens(self) -> int:
        return math.prod(self.size.grid)

    @property
    def flops(self) -> int:
        """FLOPs of the step, by the formula."""
        return EVALUATIONS * self._forward.total

    @property
    def linear_flops(self) -> int:
        """Of them, those of layers that quantisation replaces: all linear ones of towers and bridge that matter."""
        return EVALUATIONS * (self._forward.video_linears + self._forward.bridge_linears)

    @property
    def _forward(self) -> ForwardFlops:
        return forward_flops(self.denoiser, self.video_tokens, self.size.audio_tokens, TEXT_TOKENS)

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.denoiser.parameters())


def make_workload(size: Size, device: torch.device, dtype: torch.dtype) -> Workload:
    """Random weights and inputs, the same for the same size and dtype."""
    denoiser = size.shapes().to(dtype).to_empty(device="cpu").requires_grad_(False).eval()
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
    inputs = StepInputs(
        video.to(device),
        audio.to(device),
        torch.tensor(900.0),
        torch.tensor(900.0),
        24.0,
        denoiser.positions(size.grid, size.audio_tokens, 24.0, device),
    )
    return Workload(size, device, denoiser, inputs, tuple(Conditioning(one.to(device, dtype)) for one in text))


def largest_difference(ours: list[Tensor], reference: list[Tensor]) -> float:
    """The largest difference of any value, relative to the largest reference value."""
    return max(
        float((a.float() - b.float()).abs().max() / b.float().abs().max()) for a, b in zip(ours, reference, strict=True)
    )
