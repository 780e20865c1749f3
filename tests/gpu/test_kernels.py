"""The fused kernels, compiled for the card (and in the interpreter on a host), answer what PyTorch's operations answer."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

from phonofilm.kernels import check
from phonofilm.kernels.cases import Sizes, cases
from phonofilm.kernels.choice import choose_kernels, use_kernels
from phonofilm.kernels.fp8_support import has_fp8
from tests.gpu.small_models import apart, experts, resident

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="the package triton is not installed: pip install phonofilm[kernels]",
)
# Released widths and an odd one; rows on a card, and as few as an interpreter can do.
CASES = [
    (torch.float32, Sizes(width=1536, tokens=403), Sizes(width=1536, tokens=1)),
    (torch.bfloat16, Sizes(width=5120, tokens=2156, batch=1), Sizes(width=5120, tokens=1, batch=1)),
    (torch.bfloat16, Sizes(width=1536, tokens=36, batch=3), Sizes(width=1536, tokens=1)),
    (torch.float32, Sizes(width=384, tokens=1), Sizes(width=384, tokens=1)),
]


@needs_triton
@pytest.mark.parametrize(("dtype", "sizes", "few"), CASES)
def test_every_kernel_answers_what_pytorch_answers(
    device: torch.device, dtype: torch.dtype, sizes: Sizes, few: Sizes
) -> None:
    generator = torch.Generator(device).manual_seed(1)
    chosen = sizes if device.type == "cuda" else few
    with torch.no_grad():
        for case in cases(device, dtype, chosen, generator, fp8=has_fp8(device)):
            assert case.error() <= case.allowed, case.name


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
