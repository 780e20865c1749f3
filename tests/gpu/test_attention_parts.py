"""Attention over parts of the keys, merged, is attention over all of them; and so are its gradients, by every kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from phonofilm.parallel.lse_merge import merge_partials, partial_attention, partial_attention_gradients
from tests.gpu.small_models import apart

HEADS, WIDTH = 2, 128
ON_HOST = (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)
KERNELS = [
    (SDPBackend.FLASH_ATTENTION, torch.bfloat16),
    (SDPBackend.CUDNN_ATTENTION, torch.bfloat16),
    (SDPBackend.EFFICIENT_ATTENTION, torch.bfloat16),
    (SDPBackend.EFFICIENT_ATTENTION, torch.float32),
    (SDPBackend.MATH, torch.float32),
]


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS)
def test_parts_of_the_keys_add_up_to_all_of_them(device: torch.device, kernel: SDPBackend, dtype: torch.dtype) -> None:
    if device.type == "cpu" and kernel not in ON_HOST:
        pytest.skip("the host has no such kernel")
    draw = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, count, HEADS * WIDTH, generator=draw).to(device, dtype) for count in (50, 71, 71))
    gradient = torch.randn(q.shape, generator=draw).to(device, dtype)
    expected = exact(q, k, v, gradient)
    pieces = list(zip(k.split(33, 1), v.split(33, 1), strict=True))
    with sdpa_kernel([kernel]):
        try:
            whole = merge_partials(partial_attention(q, *piece, heads=HEADS) for piece in pieces)
            out = whole.flat(dtype)
            parts = [partial_attention_gradients(gradient, q, *piece, out, whole.weight, HEADS) for piece in pieces]
        except RuntimeError as error:
            if "No available kernel" in str(error) or "No viable backend" in str(error):
                pytest.skip(f"this card has no {kernel.name} for {dtype}")
            raise
    to_q = sum((part[0].float() for part in parts), start=torch.zeros_like(q, dtype=torch.float32))
    ours = [out, to_q, *(torch.cat([part[i] for part in parts], 1) for i in (1, 2))]
    allowed = 1e-5 if dtype == torch.float32 else 0.02
    for name, one, other in zip(("out", "q", "k", "v"), ours, expected, strict=True):
        assert apart([one], [other]) < allowed, name


def exact(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor) -> list[Tensor]:
    """The output and the gradients of q, k and v, in float64."""
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    heads = [t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in leaves]
    scores = heads[0] @ heads[1].transpose(-1, -2) * WIDTH**-0.5
    out = (scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(-2)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient.double())]
