"""The fused kernels compute what PyTorch's operations compute (Triton's interpreter runs them here), in fewer bytes."""

from __future__ import annotations

import copy
import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.conftest import relative_error
from torch import Tensor, nn

from phonofilm.errors import InputError
from phonofilm.kernels import check, ops
from phonofilm.kernels.cases import Sizes, cases
from phonofilm.kernels.choice import FusibleModule, choose_kernels, use_kernels
from phonofilm.kernels.fp8_support import has_fp8
from phonofilm.models.bridge import BridgeScale, DualTowerConditionalBridge
from phonofilm.models.layers import Block, modulate
from phonofilm.models.rotary import rope_table, rotate_pairs

EPS = 1e-6
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BATCH, TOKENS, WIDTH, HEADS = 2, 5, 24, 2


if importlib.util.find_spec("triton") is not None:
    from phonofilm.kernels import norms, quantization, rotations

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
    assert_as_exact(ops.norm_affine(x, shift, 1 + scale.float(), EPS), plain(x, shift, scale), exact)


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


@needs_triton
@pytest.mark.parametrize(
    "scale", [BridgeScale(), BridgeScale(0.5, torch.tensor([0.3, 2.0])), BridgeScale(a2v=0.0)], ids=str
)
@pytest.mark.parametrize("learned", [True, False])
def test_a_bridge_with_fused_kernels_gives_the_eager_bridges_numbers(scale: BridgeScale, learned: bool) -> None:
    bridge = DualTowerConditionalBridge(
        2, 2, 48, 24, audio_fps=50.0, head_dim=12, interaction_strategy="full",
        apply_cross_rope=True, trainable_condition_scale=learned,
    )  # fmt: skip
    grid = (3, 1, 2)
    given = torch.randn(BATCH, 6, 48), torch.randn(BATCH, 5, 24), bridge.clock(grid, 5, 24.0), grid, scale
    with torch.no_grad():
        eager = bridge(1, *given)
        use_kernels(bridge, "triton")
        ours = bridge(1, *given)
    for one, other, before in zip(ours, eager, given[:2], strict=True):
        assert relative_error(one, other) < 1e-6
        if other is not before:
            assert not torch.equal(one, other)


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
@pytest.mark.parametrize(
    ("module", "kernel", "found_in"),
    [
        ("norms", "launch_norm", "norm_affine"),
        ("rotations", "launch_rotate_pairs", "norm_rotate"),
        ("rotations", "launch_rotate_halves", "norm_rotate_halves"),
        ("quantization", "launch_quantize", "quantize_rows_fp8"),
    ],
)
def test_a_kernel_that_computes_something_else_is_found(
    monkeypatch: pytest.MonkeyPatch, module: str, kernel: str, found_in: str
) -> None:
    home = {"norms": norms, "rotations": rotations, "quantization": quantization}[module]
    right = getattr(home, kernel)

    def wrong(*given: Tensor, **options: bool) -> None:
        right(*given, **options)
        given[-1][..., -1] = float("nan")  # the last of the results: a lane that nobody wrote

    monkeypatch.setattr(home, kernel, wrong)
    monkeypatch.setattr(check, "TRIED", ((torch.float32, Sizes(width=384)),))
    found = check.complaint.__wrapped__(CPU)
    assert found == f"{found_in} in float32 is nan away from PyTorch's operations"


@needs_triton
def test_kernels_that_write_fp8_are_tried_only_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_float8(*given: Tensor, **options: bool) -> None:
        raise ValueError("type fp8e4nv not supported in this architecture")

    monkeypatch.setattr(quantization, "launch_quantize", no_float8)
    monkeypatch.setattr(check, "TRIED", ((torch.float32, Sizes(width=384)),))
    assert check.complaint.__wrapped__(CPU) == (
        "quantize_rows_fp8 does not run: ValueError: type fp8e4nv not supported in this architecture"
    )
    monkeypatch.setattr(check, "has_fp8", lambda device: False)
    assert check.complaint.__wrapped__(CPU) is None


def test_float8_begins_with_compute_capability_8_9(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, expected in (((8, 0), False), ((8, 6), False), ((8, 9), True), ((9, 0), True), ((10, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, it=capability: it)
        assert has_fp8(GPU) is expected
    assert has_fp8(CPU)


@needs_triton
@DTYPES
@pytest.mark.parametrize(
    "sizes",
    [Sizes(width=36, tokens=5, batch=2, head=12, hidden=7), Sizes(width=130, tokens=1, batch=3, head=10, hidden=33)],
    ids=["36", "130"],
)
def test_every_fused_operation_is_eagers_at_odd_sizes(dtype: torch.dtype, sizes: Sizes) -> None:
    made = list(cases(CPU, dtype, sizes, torch.Generator().manual_seed(1)))
    assert len({case.name for case in made}) == len(made) == 10
    for case in made:
        assert case.error() <= (case.allowed if case.fp8 else min(case.allowed, 2**-6)), case.name


@needs_triton
@pytest.mark.parametrize(
    "made", ["norm_affine", "residual_norm", "norm_rotate", "norm_rotate_halves", "quantize_rows_fp8"]
)
def test_a_transposed_input_gives_the_numbers_of_a_row_major_one(made: str) -> None:
    x = torch.randn(TOKENS, BATCH, WIDTH).transpose(0, 1)
    assert not x.is_contiguous()
    row, weight = torch.randn(1, 1, WIDTH), torch.rand(WIDTH)
    cos, sin = torch.randn(2, TOKENS, WIDTH // HEADS)
    operation = {
        "norm_affine": lambda x: (ops.norm_affine(x, row, row, EPS),),
        "residual_norm": lambda x: ops.residual_norm(x, x, row, row, row, EPS),
        "norm_rotate": lambda x: ops.norm_rotate(x, x, weight, weight, table(), EPS),
        "norm_rotate_halves": lambda x: (ops.norm_rotate_halves(x, weight, cos, sin, EPS),),
        "quantize_rows_fp8": ops.quantize_rows_fp8,
    }[made]
    for ours, expected in zip(operation(x), operation(x.contiguous()), strict=True):
        assert torch.equal(ours.float(), expected.float())


@needs_triton
@DTYPES
def test_fused_into_fp8_is_the_fused_operation_and_then_fp8(dtype: torch.dtype) -> None:
    x, update = torch.randn(2, BATCH, TOKENS, WIDTH, dtype=dtype)
    shift, scale, gate = row_of(0, dtype), row_of(1, dtype), row_of(2, dtype)
    y, normed = ops.residual_norm(x, update, gate, shift, scale, EPS)
    ours = ops.residual_norm_fp8(x, update, gate, shift, scale, EPS)
    assert torch.equal(ours[0], y)
    same_rows(ours[1:], ops.quantize_rows_fp8(normed))
    same_rows(
        ops.norm_affine_fp8(x, shift, 1 + scale.float(), EPS),
        ops.quantize_rows_fp8(ops.norm_affine(x, shift, 1 + scale.float(), EPS)),
    )


def same_rows(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(ours, expected, strict=True):
        assert torch.equal(one.float(), other.float())


@needs_triton
def test_a_kernel_that_does_not_compile_leaves_auto_eager_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("ptxas exited with 255\nlong log")

    monkeypatch.setattr(norms, "launch_norm", broken)
    found = check.complaint.__wrapped__(CPU)
    assert found == "norm_affine does not run: RuntimeError: ptxas exited with 255"
    monkeypatch.setattr(check, "complaint", lambda device: found)
    with pytest.raises(InputError, match="wrong on cuda:0: norm_affine does not run"):
        choose_kernels("triton", GPU)
    assert choose_kernels("auto", GPU) == choose_kernels("auto", GPU) == "eager"
    assert [record.message for record in caplog.records] == [
        f"kernels triton are not used: on cuda:0 {found}. PyTorch's operations run instead."
    ]
