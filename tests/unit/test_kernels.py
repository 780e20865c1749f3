"""The fused kernels compute what PyTorch's operations compute (Triton's interpreter runs them here), in fewer bytes."""

from __future__ import annotations

import copy
import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks.forward_counters import FUSED_ELEMENTWISE_GOAL, FUSED_PEAK_GOAL, count_block
from benchmarks.released import CLIP_360P
from tests.conftest import relative_error
from torch import Tensor, nn

from phonofilm.errors import InputError
from phonofilm.kernels import check, ops
from phonofilm.kernels.choice import FusibleModule, choose_kernels, use_kernels
from phonofilm.models.layers import Block, modulate, rope_table, rotate_pairs

EPS = 1e-6
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BATCH, TOKENS, WIDTH, HEADS = 2, 5, 24, 2


if importlib.util.find_spec("triton") is not None:
    from phonofilm.kernels import rows

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="the package triton is not installed: pip install phonofilm[kernels]",
)


def row_of(index: int, dtype: torch.dtype) -> Tensor:
    """One of six rows per sample, strided as the modulation's are."""
    return torch.randn(BATCH, 6, WIDTH, dtype=dtype).chunk(6, 1)[index]


def table() -> Tensor:
    return torch.from_numpy(rope_table(np.arange(TOKENS) * 7.3, WIDTH // HEADS))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def assert_as_exact(ours: Tensor, eager: Tensor, exact: Tensor) -> None:
    """Equal to rounding. In bfloat16 by one step of it: the interpreter truncates where a GPU rounds to nearest."""
    assert ours.dtype == eager.dtype
    assert relative_error(ours.float(), exact) < (2e-6 if ours.dtype == torch.float32 else 2**-7)
    assert relative_error(ours.float(), eager.float()) < (4e-6 if ours.dtype == torch.float32 else 2**-6)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@needs_triton
@DTYPES
def test_norm_with_modulation(dtype: torch.dtype) -> None:
    x, shift, scale = torch.randn(BATCH, TOKENS, WIDTH, dtype=dtype) + 3, row_of(1, dtype), row_of(4, dtype)

    def plain(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return modulate(F.layer_norm(x, (WIDTH,), eps=EPS), shift, scale)

    exact = plain(x.float(), shift.float(), scale.float())
    assert_as_exact(ops.norm_modulate(x, shift, scale, EPS), plain(x, shift, scale), exact)


@needs_triton
@DTYPES
@pytest.mark.parametrize("gated", [True, False])
def test_gate_residual_and_norm(dtype: torch.dtype, gated: bool) -> None:
    x, update = torch.randn(2, BATCH, TOKENS, WIDTH, dtype=dtype)
    gate = row_of(2, dtype) if gated else None
    weight, bias = torch.rand(1, 1, WIDTH, dtype=dtype), torch.randn(1, 1, WIDTH, dtype=dtype)
    y, out = ops.residual_norm(x, update, gate, bias, weight, EPS)
    expected = torch.addcmul(x, gate, update) if gate is not None else x + update
    torch.testing.assert_close(y, expected, rtol=2**-7 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    eager = F.layer_norm(y, (WIDTH,), weight[0, 0], bias[0, 0], EPS)
    exact = F.layer_norm(y.float(), (WIDTH,), weight[0, 0].float(), bias[0, 0].float(), EPS)
    assert_as_exact(out, eager, exact)


@needs_triton
@DTYPES
def test_norm_with_rotation_of_queries_and_keys(dtype: torch.dtype) -> None:
    pair = torch.randn(2, BATCH, TOKENS, WIDTH, dtype=dtype)
    weights = torch.rand(2, WIDTH, dtype=dtype) + 0.5
    turned = ops.norm_rotate(*pair, *weights, table(), EPS)
    for x, weight, ours in zip(pair, weights, turned, strict=True):
        eager = rotate_pairs(F.rms_norm(x, (WIDTH,), weight, EPS), table())
        exact = rotate_pairs(F.rms_norm(x.float(), (WIDTH,), weight.float(), EPS), table())
        assert_as_exact(ours, eager, exact)


@needs_triton
def test_a_block_with_fused_kernels_gives_the_eager_blocks_numbers() -> None:
    block = Block(WIDTH, HEADS, 40, EPS)
    x, text = torch.randn(BATCH, TOKENS, WIDTH), torch.randn(BATCH, 3, WIDTH)
    given = x, torch.randn(BATCH, 6, WIDTH), table(), text, torch.randn(BATCH, 3)
    with torch.no_grad():
        eager = block(*given)
        use_kernels(block, "triton")
        ours = block(*given)
    assert not torch.equal(ours, eager)  # another order of rounding: the fused path did run
    assert relative_error(ours, eager) < 1e-6


def test_fused_kernels_meet_their_goals_at_the_true_shapes_and_compute_the_same_products() -> None:
    eager = count_block(Block, torch.complex64, CLIP_360P.video_tokens)
    counts = count_block(Block, torch.complex64, CLIP_360P.video_tokens, "triton")
    assert counts.elementwise_bytes <= FUSED_ELEMENTWISE_GOAL
    assert counts.peak_live_bytes <= FUSED_PEAK_GOAL
    assert counts.flops == eager.flops
    assert counts.float64_tensors == 0


def test_gradients_are_never_asked_of_the_fused_kernels() -> None:
    module = FusibleModule()
    use_kernels(module, "triton")
    assert not module.fused
    with torch.no_grad():
        assert module.fused
        use_kernels(module, "eager")
        assert not module.fused


def test_two_networks_of_one_process_choose_their_kernels_apart() -> None:
    one, other = nn.Sequential(Block(WIDTH, HEADS, 40, EPS)), Block(WIDTH, HEADS, 40, EPS)
    use_kernels(one, "triton")
    with torch.no_grad():
        assert all(module.fused for module in one.modules() if isinstance(module, FusibleModule))
        assert copy.deepcopy(one[0]).fused
        assert not other.fused


def test_auto_is_eager_without_a_gpu_and_unknown_or_impossible_kernels_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_kernels("auto", CPU) == "eager"
    with pytest.raises(InputError, match="unknown; use one of auto, eager, triton"):
        choose_kernels("cutlass", CPU)
    with monkeypatch.context() as patch:
        patch.delenv("TRITON_INTERPRET", raising=False)
        patch.setattr("importlib.util.find_spec", lambda name: object())
        with pytest.raises(InputError, match="run on CUDA, and the device is cpu"):
            choose_kernels("triton", CPU)
        patch.setattr("importlib.util.find_spec", lambda name: None)
        assert choose_kernels("auto", GPU) == "eager"
        with pytest.raises(InputError, match="need the package triton"):
            choose_kernels("triton", GPU)


@needs_triton
def test_kernels_that_compute_what_pytorch_computes_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_kernels("triton", CPU) == "triton"
    monkeypatch.setattr(check, "complaint", lambda device: None)
    assert choose_kernels("auto", GPU) == "triton"


@needs_triton
@pytest.mark.parametrize("kernel", ["norm", "rotate", "quantize"])
def test_a_kernel_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    right = getattr(rows, kernel)

    def wrong(*given: Tensor) -> None:
        right(*given)
        given[-1][..., -1] = float("nan")  # the last of the results: a lane that nobody wrote

    monkeypatch.setattr(rows, kernel, wrong)
    monkeypatch.setattr(check, "CASES", ((torch.float32, 384, 1e-4),))
    found = check.complaint.__wrapped__(CPU)
    assert found is not None
    assert found.startswith({"norm": "norm_modulate", "rotate": "norm_rotate", "quantize": "quantize_rows"}[kernel])
    assert found.endswith("in float32 is nan away from PyTorch's operations")


@needs_triton
def test_a_kernel_that_does_not_compile_leaves_auto_eager_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("ptxas exited with 255\nlong log")

    monkeypatch.setattr(rows, "norm", broken)
    found = check.complaint.__wrapped__(CPU)
    assert found == "norm_modulate does not run: RuntimeError: ptxas exited with 255"
    monkeypatch.setattr(check, "complaint", lambda device: found)
    with pytest.raises(InputError, match="wrong on cuda:0: norm_modulate does not run"):
        choose_kernels("triton", GPU)
    assert choose_kernels("auto", GPU) == choose_kernels("auto", GPU) == "eager"
    assert [record.message for record in caplog.records] == [
        f"kernels triton are not used: on cuda:0 {found}. PyTorch's operations run instead."
    ]
