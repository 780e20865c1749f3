"""Products in fp8: any number of rows, one quantisation for all layers that read them, fused with what stands before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from phonofilm.kernels.choice import use_kernels
from phonofilm.models import eight_bit_rows
from phonofilm.models.eight_bit_rows import (
    Fp8Rows,
    ignores_streams,
    multiply_fp8,
    quantize_activations,
    whole_tiles,
)
from phonofilm.models.layers import Block
from phonofilm.models.quantized import QuantizedLinear


def apart(ours: Tensor, exact: Tensor) -> float:
    return float((ours.float() - exact.float()).norm() / exact.float().norm())


@pytest.mark.parametrize("rows", [43_120, 403, 36, 512])
def test_products_in_fp8_take_any_number_of_rows(rows: int) -> None:
    layer = QuantizedLinear.of(nn.Linear(32, 16).requires_grad_(False), "fp8")
    x = torch.randn(rows, 32)
    product = layer.in_fp8(x)
    few = quantize_activations(x[-5:], fused=False)
    assert product.shape == (rows, 16)
    assert torch.equal(product[-5:], multiply_fp8(few, layer.weight, layer.weight_scale, layer.bias))


@pytest.mark.parametrize(("rows", "room"), [(43_120, 43_264), (403, 512), (36, 256), (512, 512)])
def test_the_scales_of_a_product_lie_in_memory_for_whole_tiles(rows: int, room: int) -> None:
    scale = torch.rand(rows, 1)
    padded = whole_tiles(scale)
    assert torch.equal(padded, scale)
    assert padded.untyped_storage().nbytes() == room * 4
    assert padded.stride() == scale.stride()


def test_only_ada_before_torch_2_12_starts_the_product_on_another_stream() -> None:
    assert ignores_streams((8, 9), (2, 11))
    assert not ignores_streams((8, 9), (2, 12))
    assert not ignores_streams((8, 9), (3, 0))
    assert not ignores_streams((9, 0), (2, 11))


@pytest.fixture
def in_fp8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers multiply in fp8 here, as on a GPU that can: PyTorch's product for CPUs takes the same arguments."""
    monkeypatch.setattr(
        QuantizedLinear, "multiplies_in_fp8", lambda self, device: self.kind == "fp8" and not self.training
    )


def fp8_block() -> Block:
    torch.manual_seed(0)
    block = Block(48, 4, 80, 1e-6).eval().requires_grad_(False)
    for layer in ("q", "k", "v", "o"):
        for attention in (block.self_attn, block.cross_attn):
            setattr(attention, layer, QuantizedLinear.of(getattr(attention, layer), "fp8"))
    for index in (0, 2):
        block.ffn[index] = QuantizedLinear.of(block.ffn[index], "fp8")
    return block


def block_arguments() -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    table = torch.polar(torch.ones(5, 6), torch.rand(5, 6))
    return torch.randn(2, 5, 48), torch.randn(2, 6, 48) / 4, table, torch.randn(2, 3, 48), torch.randn(2, 3)


@pytest.mark.usefixtures("in_fp8")
@torch.no_grad()
def test_one_quantisation_serves_queries_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, x = fp8_block().self_attn, torch.randn(2, 5, 48)
    rope = block_arguments()[2]
    quantized: list[tuple[int, ...]] = []
    real = eight_bit_rows.quantize_rows

    def counting(rows: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        quantized.append(tuple(rows.shape))
        return real(rows, kind)

    apart = attention(x, rope)
    monkeypatch.setattr(eight_bit_rows, "quantize_rows", counting)
    assert torch.equal(attention(x, rope), apart)
    assert quantized == [(2, 5, 48)] * 2  # the input of q, k and v; the input of o


@pytest.mark.usefixtures("in_fp8")
@torch.no_grad()
def test_a_block_in_fp8_with_fused_kernels_is_near_the_eager_one_and_the_exact_one() -> None:
    pytest.importorskip("triton", reason="the package triton is not installed: pip install phonofilm[kernels]")
    block, arguments = fp8_block(), block_arguments()
    eager = block(*arguments)
    use_kernels(block, "triton")
    fused = block(*arguments)
    use_kernels(block, "eager")
    exact = fp8_block()
    for module in exact.modules():
        if isinstance(module, QuantizedLinear):
            module.train()  # multiplies with the weight brought back to float32
    precise = exact(*arguments)
    assert not torch.equal(fused, eager)
    assert apart(eager, precise) < 0.04
    assert apart(fused, precise) < 0.06  # the interpreter's cast to fp8 truncates


@pytest.mark.usefixtures("in_fp8")
@torch.no_grad()
def test_a_layer_with_an_adapter_around_it_gets_no_rows_in_fp8() -> None:
    pytest.importorskip("triton", reason="the package triton is not installed: pip install phonofilm[kernels]")
    block, seen = fp8_block(), []
    use_kernels(block, "triton")

    class Adapted(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base = base

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return self.base(x)

    block.self_attn.k, block.ffn[2] = Adapted(block.self_attn.k), Adapted(block.ffn[2])
    block(*block_arguments())
    assert [type(x) for x in seen] == [Tensor, Tensor]
    assert not any(isinstance(x, Fp8Rows) for x in seen)
