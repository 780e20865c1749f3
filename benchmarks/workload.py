"""What everyone in a benchmark runs: one model with random weights, and one guided step's inputs.

Shapes: n video tokens, m audio tokens, l text positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.sizes import Size
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs
from phonofilm.runtime.flops import ForwardFlops, forward_flops

TEXT_TOKENS = 512
EVALUATIONS = 2
# Numbers that are drawn for all weights: a prime, so that no two rows of a matrix are the same.
DRAWN = 16_777_213


@dataclass(frozen=True)
class Workload:
    """`denoiser` is wherever its weights were made; `inputs` and `conditionings` are one guided step's inputs on `device`."""

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
    def dtype(self) -> torch.dtype:
        return self.denoiser.video.compute_dtype

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.denoiser.parameters())

    def at(self, size: Size) -> Workload:
        """The same weights with the inputs of a clip of another size."""
        inputs, conditionings = step_inputs(self.denoiser, size, self.device, self.dtype)
        return replace(self, size=size, inputs=inputs, conditionings=conditionings)

    def move_weights(self, device: torch.device) -> None:
        self.denoiser.to(device)


def make_workload(
    size: Size, device: torch.device, dtype: torch.dtype, weights_on: torch.device | None = None
) -> Workload:
    """Random weights, made in the memory of `weights_on` (the host by default), and inputs on `device`.

    The same weights for the same size and dtype, wherever they are made.
    """
    home = weights_on or torch.device("cpu")
    denoiser = size.shapes().to(dtype).to_empty(device=home).requires_grad_(False).eval()
    fill(denoiser, dtype, home)
    inputs, conditionings = step_inputs(denoiser, size, device, dtype)
    return Workload(size, device, denoiser, inputs, conditionings)


def fill(module: nn.Module, dtype: torch.dtype, home: torch.device) -> None:
    """Small random numbers everywhere, around 1 in the weights of norms.

    They are cut from one long draw, each parameter's from where the last one's ended: drawing 18 billion normal numbers on
    a host takes minutes, and zeros would be multiplied faster than real weights.
    """
    largest = max(parameter.numel() for parameter in module.parameters())
    drawn = torch.empty(min(largest | 1, DRAWN)).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    drawn, start = drawn.to(home, dtype), 0
    for name, parameter in module.named_parameters():
        flat = parameter.data.view(-1)
        for first, piece in _pieces(drawn, start, flat.numel()):
            flat[first : first + piece.numel()] = piece
        if parameter.ndim == 1 and name.endswith("weight"):
            flat += 1
        start = (start + flat.numel()) % drawn.numel()


def _pieces(drawn: Tensor, start: int, count: int) -> Iterator[tuple[int, Tensor]]:
    """`count` numbers of `drawn` from `start` on, over and over, in pieces with the place where each begins."""
    done = 0
    while done < count:
        piece = drawn[start : start + count - done]
        yield done, piece
        done, start = done + piece.numel(), 0


def step_inputs(
    denoiser: JointDenoiser, size: Size, device: torch.device, dtype: torch.dtype
) -> tuple[StepInputs, tuple[Conditioning, ...]]:
    """Latents, positions, and one text for each evaluation of a guided step, the same for the same size."""
    generator = torch.Generator().manual_seed(0)
    frames, rows, columns = size.grid
    _, step_h, step_w = denoiser.video.patch_size
    channels, text_width = denoiser.video.config["in_dim"], denoiser.video.config["text_dim"]
    video = torch.randn(1, channels, frames, rows * step_h, columns * step_w, generator=generator)
    audio = torch.randn(1, denoiser.audio.config["in_dim"], size.audio_tokens, generator=generator)
    texts = [torch.randn(1, TEXT_TOKENS, text_width, generator=generator) for _ in range(EVALUATIONS)]
    inputs = StepInputs(
        video.to(device),
        audio.to(device),
        torch.tensor(900.0),
        torch.tensor(900.0),
        24.0,
        denoiser.positions(size.grid, size.audio_tokens, 24.0, device),
    )
    return inputs, tuple(Conditioning(text.to(device, dtype)) for text in texts)


def velocities(outputs: list[JointOutput]) -> list[Tensor]:
    """What a step answers, on the host: picture and sound of each evaluation, float32."""
    return [tensor.float().cpu() for output in outputs for tensor in (output.video, output.audio)]


def largest_difference(ours: list[Tensor], reference: list[Tensor]) -> float:
    """The largest difference of any value, relative to the largest reference value."""
    return max(
        float((a.float() - b.float()).abs().max() / b.float().abs().max()) for a, b in zip(ours, reference, strict=True)
    )


def relative_errors(ours: list[Tensor], reference: list[Tensor]) -> dict[str, float]:
    """|ours - reference| / |reference| of the picture's velocities, and of the sound's, over as many as `ours` has."""
    errors = {}
    for first, track in enumerate(("video", "audio")):
        mine, its = (
            torch.cat([t.flatten() for t in ours[first::2]]),
            torch.cat([t.flatten() for t in reference[first::2]]),
        )
        its = its[: mine.numel()]
        errors[track] = float((mine - its).norm() / its.norm())
    return errors
