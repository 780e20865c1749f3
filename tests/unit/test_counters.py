"""The counters count what they say, and the plain forward meets its goals at the true 14B shapes, on meta tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.conftest import relative_error
from torch import nn

from benchmarks.forward_counters import (
    ELEMENTWISE_GOAL,
    ORIGINAL_FORWARD_BYTES,
    PEAK_GOAL,
    analytic_flops,
    count_block,
    count_forward,
)
from benchmarks.original_block import OriginalBlock
from benchmarks.released import CLIP_360P, CLIP_720P, released_denoiser
from phonofilm.geometry import ClipGeometry
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layers import Block, attention
from phonofilm.models.rotary import rope_table
from phonofilm.runtime.counters import count

KB = 1000  # bytes of one float32 [250] row below


@pytest.fixture(scope="module")
def denoiser() -> JointDenoiser:
    return released_denoiser()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def test_a_linear_layer_is_all_flops_and_no_elementwise_bytes() -> None:
    x, layer = meta(2, 7, 30), nn.Linear(30, 50, device="meta")
    counts = count(lambda: layer(x), inputs=[x], weights=layer.parameters())
    assert counts.flops == 2 * 2 * 7 * 30 * 50
    assert counts.elementwise_bytes == 0


def test_elementwise_bytes_are_operands_read_and_results_written() -> None:
    x, row = meta(10, 250), meta(1, 250)
    counts = count(lambda: torch.relu(x * row), inputs=[x, row])
    assert counts.elementwise_bytes_by_op == {"mul": 10 * KB + KB + 10 * KB, "relu": 20 * KB}
    assert counts.elementwise_bytes == 41 * KB


def test_an_expanded_operand_is_read_once() -> None:
    x, row = meta(10, 250), meta(1, 250)
    counts = count(lambda: x + row.expand(10, 250), inputs=[x, row])
    assert counts.elementwise_bytes == 21 * KB


def test_half_of_a_tensor_is_half_the_bytes() -> None:
    x = meta(10, 500)
    assert count(lambda: x.chunk(2, dim=-1)[1].neg(), inputs=[x]).elementwise_bytes == 20 * KB


def test_views_and_allocations_cost_nothing_but_copies_and_in_place_writes_do() -> None:
    x = meta(10, 250)
    assert count(lambda: x.view(250, 10).transpose(0, 1).unflatten(0, (2, 5)), inputs=[x]).elementwise_bytes == 0
    assert count(lambda: torch.empty_like(x), inputs=[x]).elementwise_bytes == 0
    assert count(lambda: x.transpose(0, 1).contiguous(), inputs=[x]).elementwise_bytes == 20 * KB
    assert count(lambda: x.add_(1.0), inputs=[x]).elementwise_bytes == 20 * KB


def test_where_a_result_goes_is_written_and_not_read() -> None:
    x, out = meta(10, 250), meta(10, 250, dtype=torch.bfloat16)
    counts = count(lambda: torch.add(x, x, out=out), inputs=[x, out])
    assert counts.elementwise_bytes == 10 * KB + 10 * KB + 5 * KB


def test_rms_norm_is_one_pass_as_on_cuda() -> None:
    x, norm = meta(10, 250), nn.RMSNorm(250, device="meta")
    counts = count(lambda: norm(x), inputs=[x], weights=norm.parameters())
    assert counts.elementwise_bytes_by_op == {"rms_norm": 21 * KB}
    assert counts.peak_live_bytes == 20 * KB


def test_attention_is_one_kernel_without_a_score_matrix() -> None:
    q, k = meta(1, 100, 250), meta(1, 70, 250)
    shapes = []
    counts = count(lambda: shapes.append(attention(q, k, k, heads=5).shape), inputs=[q, k])
    assert shapes == [(1, 100, 250)]
    assert counts.flops == 4 * 100 * 70 * 250
    assert counts.elementwise_bytes == 0
    assert counts.peak_live_bytes == 100 * KB + 70 * KB + 100 * KB


def test_peak_live_bytes_forgets_what_has_died_and_weights() -> None:
    x, weight = meta(10, 250), meta(250)

    def chain() -> None:
        held = x * weight
        F.relu(F.relu(F.relu(held)))

    # x, held, and the one intermediate that is read while the next is written.
    assert count(chain, inputs=[x], weights=[weight]).peak_live_bytes == 40 * KB
    assert count(chain, inputs=[x, weight]).peak_live_bytes == 41 * KB


def test_float64_tensors_are_counted_once_each_and_views_of_them_never() -> None:
    x = meta(10, 250)
    counts = count(lambda: torch.view_as_complex(x.double().view(10, 125, 2)) * 2, inputs=[x])
    assert counts.float64_tensors == 2


def test_work_on_the_host_is_not_counted() -> None:
    x = meta(10, 250)
    counts = count(lambda: torch.ones(10).double() * 2, inputs=[x])
    assert (counts.elementwise_bytes, counts.float64_tensors, counts.peak_live_bytes) == (0, 0, 10 * KB)


def test_released_parameter_counts(denoiser: JointDenoiser) -> None:
    sizes = {
        name: sum(p.numel() for p in getattr(denoiser, name).parameters()) for name in ("video", "audio", "bridge")
    }
    assert sizes == {"video": 14_288_901_184, "audio": 1_419_193_472, "bridge": 2_659_737_600}


@pytest.mark.parametrize(("clip", "petaflops"), [(CLIP_360P, 2.766), (CLIP_720P, 30.565)], ids=["352x640", "720x1280"])
def test_forward_flops_equal_the_formula_and_nothing_is_float64(
    denoiser: JointDenoiser, clip: ClipGeometry, petaflops: float
) -> None:
    counts = count_forward(denoiser, clip)
    assert counts.flops == analytic_flops(denoiser, clip)
    assert counts.flops / 1e15 == pytest.approx(petaflops, abs=5e-4)
    assert counts.float64_tensors == 0
    if clip is CLIP_360P:
        assert counts.elementwise_bytes < ORIGINAL_FORWARD_BYTES


def test_video_block_meets_its_goals() -> None:
    counts = count_block(Block, torch.complex64, CLIP_360P.video_tokens)
    assert counts.elementwise_bytes <= ELEMENTWISE_GOAL
    assert counts.peak_live_bytes <= PEAK_GOAL
    assert counts.float64_tensors == 0


def test_the_same_counter_finds_the_originals_known_cost() -> None:
    counts = count_block(OriginalBlock, torch.complex128, CLIP_360P.video_tokens)
    assert counts.elementwise_bytes / 1e9 == pytest.approx(31.2, abs=0.05)
    assert counts.float64_tensors == 4


def test_the_re_created_original_block_computes_what_ours_computes() -> None:
    torch.manual_seed(0)
    ours, original = Block(24, 2, 40, 1e-6), OriginalBlock(24, 2, 40, 1e-6)
    original.load_state_dict(ours.state_dict())
    rope = torch.from_numpy(rope_table(np.arange(9), 12))
    x, modulation, text = torch.randn(2, 9, 24), torch.randn(2, 6, 24), torch.randn(2, 5, 24)
    with torch.no_grad():
        expected = original(x, modulation, rope.to(torch.complex128), text)
        assert relative_error(ours(x, modulation, rope, text, None), expected) < 1e-5
