"""Two experts of a few layers around one audio tower and bridge, with sizes that every kernel of a card takes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.sizes import Size, small_denoiser
from benchmarks.workload import fill, make_workload, step_inputs
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_one

SIZE = Size("small", "for these tests", (3, 2, 5), 17, partial(small_denoiser, layers=3, head_width=32))


def experts(dtype: torch.dtype = torch.float32) -> list[JointDenoiser]:
    """In host memory; the second has a video tower of its own."""
    high = make_workload(SIZE, torch.device("cpu"), dtype).denoiser
    video = SIZE.shapes().video.to(dtype).to_empty(device="cpu")
    fill(video, dtype, torch.device("cpu"))
    for parameter in video.parameters():
        parameter.data *= 1.25
    low = JointDenoiser(video, high.audio, high.bridge)
    return [expert.eval().requires_grad_(False) for expert in (high, low)]


def step(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[StepInputs, list[Conditioning]]:
    """Latents, and three evaluations: a prompt, another one with a bias, and one with the bridge off."""
    inputs, conditionings = step_inputs(SIZE.shapes(), SIZE, device, dtype)
    one, other = (conditioning.text[:, :9] for conditioning in conditionings)
    bias = torch.zeros(other.shape[:2], device=device)
    bias[:, -1] = 1.5
    return inputs, [Conditioning(one), Conditioning(other, bias), Conditioning(one, bridge_scale=0.0)]


@torch.no_grad()
def resident(expert: JointDenoiser, device: torch.device, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What the step's evaluations answer with all weights on `device`; afterwards they are in host memory again."""
    inputs, conditionings = step(device, dtype)
    expert.to(device)
    answers = [forward_one(expert, inputs, replace(conditioning)) for conditioning in conditionings]
    expert.to("cpu")
    return tensors(answers)


def tensors(outputs: list[JointOutput]) -> list[Tensor]:
    return [tensor for output in outputs for tensor in (output.video, output.audio)]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """To the last bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest norm of a difference over the norm of its reference."""
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in zip(ours, theirs, strict=True))
