"""The fused kernels, compiled for the card (and in the interpreter on a host), answer what PyTorch's operations answer."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

from phonofilm.kernels import check
from phonofilm.kernels.choice import choose_kernels, use_kernels
from tests.gpu.small_models import apart, experts, resident

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="the package triton is not installed: pip install phonofilm[kernels]",
)
# dtype, width, batch, tokens on a card and in the interpreter, error allowed: released widths and odd ones.
CASES = [
    (torch.float32, 1536, 2, 403, 3, 1e-5),
    (torch.bfloat16, 5120, 1, 2156, 2, 2**-7),
    (torch.bfloat16, 1536, 3, 36, 2, 2**-7),
    (torch.float32, 384, 2, 1, 1, 1e-5),
]


@needs_triton
@pytest.mark.parametrize(("dtype", "width", "batch", "tokens", "few", "allowed"), CASES)
def test_every_kernel_answers_what_pytorch_answers(
    device: torch.device, dtype: torch.dtype, width: int, batch: int, tokens: int, few: int, allowed: float
) -> None:
    count = tokens if device.type == "cuda" else few
    generator = torch.Generator(device).manual_seed(1)
    for name, fused, eager in check.trials(device, dtype, width, generator, batch, count):
        with torch.no_grad():
            assert apart(list(fused()), list(eager())) < allowed, name


@needs_triton
def test_kernels_on_a_card_are_compiled_and_chosen(device: torch.device) -> None:
    assert check.complaint(device) is None
    if device.type == "cuda":
        assert os.environ.get("TRITON_INTERPRET") != "1"
        assert choose_kernels("auto", device) == "triton"


@needs_triton
@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda"], indirect=True)  # the interpreter would take a minute
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_a_fused_forward_answers_what_the_eager_one_answers(
    device: torch.device, dtype: torch.dtype, allowed: float
) -> None:
    (high, _) = experts(dtype)
    expected = resident(high, device, dtype)
    use_kernels(high, "triton")
    ours = resident(high, device, dtype)
    assert any(not torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    assert apart(ours, expected) < allowed
