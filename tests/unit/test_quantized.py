"""Layers of 8 and 4 bits: how far they are from the original's numbers, saved, loaded, and streamed to the last bit."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import get_4bit_type
from tests.conftest import Golden, relative_error
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.kernels import ops
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.building import empty_module
from phonofilm.models.checkpoint_files import read_json
from phonofilm.models.eight_bit_rows import quantize_rows
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layout import read_layout
from phonofilm.models.quantized import (
    CONFIG_KEY,
    FORMATS,
    QuantizedLinear,
    check_quantization,
    format_of,
    quantize_network,
)
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_many
from phonofilm.models.video import WanModel
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.quantizing import quantize_pipeline
from phonofilm.runtime.backends import HostBackend
from phonofilm.runtime.layer_streaming import LayerStreamer
from phonofilm.runtime.streamed_loading import SlabFolder, load_for_streaming

# Relative error of normally distributed weights, and of a product with them; measured, with a tenth to spare.
ERRORS = {"fp8": 0.028, "int8": 0.0075, "nf4": 0.1}


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 64).requires_grad_(False)


def apart(ours: Tensor, exact: Tensor) -> float:
    return float((ours.float() - exact.float()).norm() / exact.float().norm())


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_and_products_are_as_near_as_the_format_allows(layer: nn.Linear, kind: str) -> None:
    made, x = QuantizedLinear.of(layer, kind), torch.randn(3, 5, 96)
    assert apart(made.dequantized(torch.float32), layer.weight) < ERRORS[kind]
    assert made(x).dtype == x.dtype
    assert apart(made(x), layer(x)) < ERRORS[kind]
    stored = made.weight.nbytes + made.weight_scale.nbytes
    assert stored <= layer.weight.nbytes * {"fp8": 0.27, "int8": 0.27, "nf4": 0.15}[kind]


@pytest.mark.parametrize("width", [64, 96, 80, 33], ids="width {}".format)
def test_values_of_four_bits_are_their_code_times_the_scale_of_their_own_block(width: int) -> None:
    torch.manual_seed(0)
    exact = nn.Linear(width, 7, bias=False).requires_grad_(False)
    exact.weight *= torch.logspace(-2, 2, 7 * width).reshape(7, width)  # every block has a scale of its own
    made = QuantizedLinear.of(exact, "nf4")
    levels = get_4bit_type("nf4", device="cpu")
    codes = torch.stack([made.weight >> 4, made.weight & 15], dim=1).flatten()[: 7 * width].long()
    expected = levels[codes] * made.weight_scale.repeat_interleave(64)[: 7 * width]
    torch.testing.assert_close(made.dequantized(torch.float32).flatten(), expected, rtol=1e-6, atol=0)


def test_products_in_fp8_quantise_the_activations_too(layer: nn.Linear) -> None:
    made, x = QuantizedLinear.of(layer, "fp8"), torch.randn(3, 5, 96)
    product = made.in_fp8(x)
    assert product.shape == (3, 5, 64)
    assert product.dtype == torch.float32
    assert apart(product, layer(x)) < 0.04
    assert not torch.equal(product, made(x))


def test_rows_with_their_own_scale_survive_outliers_and_zeros() -> None:
    rows = torch.randn(4, 32)
    rows[1] *= 1e4
    rows[2] = 0
    values, scale = quantize_rows(rows, "fp8")
    assert apart(values.float()[0] * scale[0], rows[0]) < 0.03
    assert torch.equal(values.float()[2], torch.zeros(32))
    assert torch.isfinite(scale).all()


def test_rows_are_quantised_in_one_pass_as_in_several() -> None:
    pytest.importorskip("triton", reason="the package triton is not installed: pip install phonofilm[kernels]")
    rows = torch.randn(5, 24)
    values, scale = ops.quantize_rows_fp8(rows)
    expected, expected_scale = quantize_rows(rows, "fp8")
    torch.testing.assert_close(scale, expected_scale)
    # The interpreter's cast truncates, and loses the carry into the next power of two; a GPU rounds to nearest.
    same = torch.frexp(expected.float()).mantissa.abs() != 0.5
    assert same.sum() > 80
    torch.testing.assert_close(values.float()[same], expected.float()[same], rtol=2**-3, atol=2**-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_rows_are_quantised_to_the_last_bit_as_written_out(dtype: torch.dtype) -> None:
    rows = (torch.randn(9, 33) * torch.logspace(-4, 4, 9)[:, None]).to(dtype)
    for kind, largest in (("fp8", 448.0), ("int8", 127.0)):
        values, scale = quantize_rows(rows, kind)
        exact = rows.float()
        assert torch.equal(scale, exact.abs().amax(dim=1, keepdim=True) / largest)
        scaled = exact / scale
        expected = (scaled.round() if kind == "int8" else scaled).to(values.dtype)
        assert torch.equal(values.float(), expected.float())


def test_moving_a_layer_to_another_dtype_converts_its_bias_alone(layer: nn.Linear) -> None:
    made = QuantizedLinear.of(layer, "fp8")
    before = made.weight_scale.clone()
    made.to(torch.bfloat16)
    assert (made.weight.dtype, made.bias.dtype) == (torch.float8_e4m3fn, torch.bfloat16)
    assert torch.equal(made.weight_scale, before)


@pytest.fixture(scope="module")
def experts(basic: Golden) -> list[JointDenoiser]:
    audio = WanAudioModel.from_pretrained(basic.checkpoint / "audio_dit")
    bridge = DualTowerConditionalBridge.from_pretrained(basic.checkpoint / "dual_tower_bridge")
    made = [
        JointDenoiser(WanModel.from_pretrained(basic.checkpoint / name), audio, bridge).eval().requires_grad_(False)
        for name in ("video_dit", "video_dit_2")
    ]
    for network in (made[0].video, made[1].video, audio, bridge):
        quantize_network(network, "fp8")
    return made


def test_only_projections_and_feed_forwards_are_replaced(experts: list[JointDenoiser]) -> None:
    video, bridge = experts[0].video, experts[0].bridge
    block = video.blocks[0]
    for changed in (block.self_attn.q, block.cross_attn.o, block.ffn[0], block.ffn[2]):
        assert isinstance(changed, QuantizedLinear)
    for kept in (video.head.head, video.text_embedding[0], video.time_embedding[0], video.time_projection[1]):
        assert isinstance(kept, nn.Linear)
    names = [name for name, module in bridge.named_modules() if isinstance(module, QuantizedLinear)]
    assert names
    assert all(".inner." in name for name in names)


def test_a_streamed_quantised_model_gives_the_resident_ones_numbers(
    basic: Golden, experts: list[JointDenoiser]
) -> None:
    inputs = StepInputs(
        basic["video_dit/x"], basic["audio_dit/x"], basic["video_dit/t"], basic["audio_dit/t"], basic.meta["frame_rate"]
    )
    conditionings = [
        Conditioning(basic["video_dit/context"]),
        Conditioning(basic["video_dit/context"], bridge_scale=0.0),
    ]
    with torch.no_grad():
        expected = forward_many(experts[0], inputs, conditionings, lambda index: nullcontext())
    backend = HostBackend()
    streamer = LayerStreamer(experts, backend, slots=2)
    streamed = streamer.forward_many(inputs, conditionings)
    streamer.close()
    for one, other in zip(streamed, expected, strict=True):
        assert torch.equal(one.video, other.video)
        assert torch.equal(one.audio, other.audio)
    assert backend.bytes_copied > 0


def test_a_quantised_checkpoint_streams_from_files_written_now_or_before(basic: Golden, tmp_path: Path) -> None:
    pipe = MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.float32)
    quantize_pipeline(pipe, "int8")
    pipe.save_pretrained(tmp_path / "int8")
    given = basic["video_dit/x"], basic["video_dit/t"], basic["video_dit/context"]
    with torch.no_grad():
        expected = pipe.video_dit(*given)
        for _ in range(2):
            store = SlabFolder(tmp_path / "files", "any")
            loaded = load_for_streaming(read_layout(tmp_path / "int8"), torch.float32, torch.device("cpu"), store=store)
            assert torch.equal(loaded.pipe.video_dit(*given), expected)


def test_a_network_is_quantised_once_and_by_known_formats_only(experts: list[JointDenoiser]) -> None:
    with pytest.raises(InputError, match="quantised already"):
        quantize_network(experts[0].video, "int8")
    with pytest.raises(InputError, match="use one of fp8, int8, nf4"):
        check_quantization("fp4")


def test_a_foreign_quantisation_is_refused(basic: Golden) -> None:
    config = read_json(basic.checkpoint / "video_dit" / "config.json") | {CONFIG_KEY: {"quant_method": "torchao"}}
    with pytest.raises(CheckpointError, match="expected quant_method 'phonofilm'"):
        empty_module("WanModel", config, "config.json")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_saved_pipeline_comes_back_with_the_same_numbers(basic: Golden, tmp_path: Path, kind: str) -> None:
    pipe = MovaPipeline.from_pretrained(basic.checkpoint, torch_dtype=torch.bfloat16)
    exact = copy.deepcopy(pipe.video_dit)
    reports = quantize_pipeline(pipe, kind)
    assert set(reports) == {"video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge"}
    for report in reports.values():
        assert 0 < report.error <= report.worst_error < ERRORS[kind]
        assert report.bytes_after < report.bytes_before
    pipe.save_pretrained(tmp_path / "out")
    loaded = MovaPipeline.from_pretrained(tmp_path / "out", torch_dtype=torch.bfloat16)
    assert format_of(loaded.video_dit) == kind
    given = basic["video_dit/x"], basic["video_dit/t"], basic["video_dit/context"]
    with torch.no_grad():
        ours, before, reference = loaded.video_dit(*given), pipe.video_dit(*given), exact(*given)
    assert torch.equal(ours, before)
    assert 0 < relative_error(ours.float(), reference.float()) < 3 * ERRORS[kind]
