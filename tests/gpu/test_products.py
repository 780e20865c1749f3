"""Products that a card makes in a way of its own: in fp8 with scales per row, and with GELU in the epilogue."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phonofilm.kernels import ops
from phonofilm.kernels.fp8_support import has_fp8
from phonofilm.models.eight_bit_rows import quantize_rows
from phonofilm.models.quantized import QuantizedLinear
from tests.gpu.small_models import apart

# Rows of the picture, the sound, a short clip's sound, the text; only the last is a multiple of 256.
ROWS = (43_120, 403, 36, 512)


@pytest.fixture
def layer(device: torch.device) -> QuantizedLinear:
    if not has_fp8(device):
        pytest.skip("this card multiplies no fp8")
    torch.manual_seed(0)
    plain = nn.Linear(64, 48, dtype=torch.bfloat16).eval().requires_grad_(False)
    return QuantizedLinear.of(plain.to(device), "fp8")


@pytest.mark.parametrize("count", ROWS)
def test_fp8_products_are_right_for_any_number_of_rows(
    layer: QuantizedLinear, device: torch.device, count: int
) -> None:
    x = torch.randn(1, count, 64, generator=torch.Generator().manual_seed(count)).to(device, torch.bfloat16)
    values, scale = quantize_rows(x[0], "fp8")
    assert layer.bias is not None
    expected = (values.float() * scale) @ layer.dequantized(torch.float32).t() + layer.bias.float()
    assert apart([layer.in_fp8(x)[0]], [expected]) < 2**-7
    if device.type == "cuda":
        assert torch.equal(layer(x), layer.in_fp8(x))


def test_fp8_products_follow_the_current_stream(layer: QuantizedLinear, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("the host has no streams")
    x = torch.randn(4096, 64, device=device, dtype=torch.bfloat16)
    expected = layer(x)
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # cycles: what does not wait for this stream reads x before it is doubled
        x.mul_(2)
        product = layer(x)
    stream.synchronize()
    assert not torch.equal(product, expected)
    assert torch.equal(product, layer(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [403, 36, 7])
def test_gelu_in_the_epilogue_is_gelu_after_the_product(device: torch.device, dtype: torch.dtype, count: int) -> None:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    generator = torch.Generator().manual_seed(3)
    x, weight, bias = draw(2, count, 64), draw(96, 64) / 8, draw(96)
    with torch.no_grad():
        ours = ops.linear_gelu(x, weight, bias)
    exact = F.gelu(F.linear(x.double(), weight.double(), bias.double()), approximate="tanh")
    assert ours.shape == (2, count, 96)
    assert apart([ours.double()], [exact]) < (1e-5 if dtype == torch.float32 else 2**-7)
