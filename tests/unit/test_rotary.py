"""Rotary positions over a head's halves: the numbers of plain arithmetic, forwards and backwards, in fewer bytes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.conftest import relative_error
from torch import Tensor

from phonofilm.models.rotary import rotate_halves
from phonofilm.runtime.counters import count

BATCH, TOKENS, HEADS, HEAD = 2, 7, 3, 8


def tables() -> tuple[Tensor, Tensor]:
    angles = torch.rand(TOKENS, HEAD // 2, generator=torch.Generator().manual_seed(0)) * 6
    return torch.cat((angles.cos(),) * 2, dim=-1), torch.cat((angles.sin(),) * 2, dim=-1)


def plain(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    heads = x.unflatten(-1, (-1, cos.shape[-1]))
    first, second = heads.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return torch.addcmul(heads * cos[:, None], turned, sin[:, None]).flatten(-2).to(x.dtype)


def draw(dtype: torch.dtype) -> Tensor:
    return torch.randn(BATCH, TOKENS, HEADS * HEAD, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("row_major", [True, False])
def test_it_rotates_as_plain_arithmetic_does_to_the_last_bit(dtype: torch.dtype, row_major: bool) -> None:
    x = draw(dtype) if row_major else draw(dtype).transpose(0, 1).contiguous().transpose(0, 1)
    ours = rotate_halves(x, *tables())
    assert ours.dtype == dtype
    assert torch.equal(ours, plain(x, *tables()))


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)], ids=["f32", "bf16"])
def test_its_gradient_is_the_exact_one_rounded_once(dtype: torch.dtype, allowed: float) -> None:
    x, gradient = draw(dtype).requires_grad_(), draw(dtype).flip(-1)
    rotate_halves(x, *tables()).backward(gradient)
    exact = x.detach().double().requires_grad_()
    plain(exact, *(table.double() for table in tables())).backward(gradient.double())
    assert x.grad is not None
    assert exact.grad is not None
    assert x.grad.dtype == dtype
    assert relative_error(x.grad.double(), exact.grad) < allowed


def test_compiled_it_is_the_same_rotation_without_a_graph_break() -> None:
    compiled = torch.compile(rotate_halves, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(draw(torch.float32), *tables()), plain(draw(torch.float32), *tables())) < 1e-6


def test_it_moves_half_the_bytes_of_plain_arithmetic() -> None:
    x = torch.empty(1, 4096, 5120, dtype=torch.bfloat16, device="meta")
    given = x, *(torch.empty(4096, 128, device="meta") for _ in range(2))
    ours, before = (count(partial(turn, *given), inputs=given).elementwise_bytes for turn in (rotate_halves, plain))
    assert ours < 7.3 * x.nbytes
    assert before > 13.5 * x.nbytes
