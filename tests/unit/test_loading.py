"""Loading checkpoints that are whole: the right weights, in the right dtype, from any layout of the files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import save_file
from tests.conftest import Golden
from tests.unit.checkpoints import (
    GOLDEN,
    WEIGHTS,
    copy_golden,
    edit_json,
    edit_weights,
    split_weights,
    weights_of,
    with_weight_norm,
)

from phonofilm.errors import InputError
from phonofilm.models.building import DIFFUSERS_CLASSES
from phonofilm.models.layout import NETWORKS, CheckpointLayout, read_component, read_layout
from phonofilm.models.loading import load_component, load_components, load_tokenizer
from phonofilm.models.scalars import PipelineScalars
from phonofilm.models.shards import TENSOR_DTYPES, TensorReader, read_entries
from phonofilm.models.tensor_header import ITEM_BYTES


def test_every_network_holds_the_weights_of_its_file_bit_for_bit(golden: Golden) -> None:
    layout = read_layout(golden.checkpoint)
    networks = load_components(layout)
    assert tuple(networks) == NETWORKS
    for name, network in networks.items():
        state = network.state_dict()
        for key, expected in weights_of(golden.checkpoint, name).items():
            assert torch.equal(state[key], expected), f"{name}.{key}"
        assert not any(tensor.is_meta for tensor in state.values()), name
        assert not network.training


def test_scalars_and_scheduler_come_from_the_files(tmp_path: Path) -> None:
    root = copy_golden(tmp_path)
    edit_json(root / "model_index.json", lambda index: index.update(boundary_ratio=0.7, defaults={"num_frames": 9}))
    edit_json(root / "scheduler" / "scheduler_config.json", lambda config: config.update(shift=3.0))
    layout = read_layout(root)
    assert layout.scalars == PipelineScalars(boundary_ratio=0.7, audio_vae_type="dac", defaults={"num_frames": 9})
    assert layout.scheduler_config["shift"] == 3.0
    assert not any(key.startswith("_") for key in layout.scheduler_config)


def test_tied_embeddings_are_one_parameter_under_either_name(tmp_path: Path) -> None:
    root = copy_golden(tmp_path)
    expected = weights_of(root, "text_encoder")["shared.weight"]
    edit_weights(
        root / "text_encoder" / "model.safetensors",
        lambda state: state.update({"encoder.embed_tokens.weight": state.pop("shared.weight")}),
    )
    encoder = load_component(read_layout(root), "text_encoder")
    assert encoder.shared.weight is encoder.encoder.embed_tokens.weight
    assert torch.equal(encoder.shared.weight, expected)


def test_dtype_is_per_component_with_a_default_and_otherwise_the_files_own() -> None:
    layout = read_layout(GOLDEN)
    networks = load_components(layout, {"video_vae": torch.float16, "default": torch.bfloat16}, skip=("audio_vae",))
    assert "audio_vae" not in networks
    assert {p.dtype for p in networks["video_vae"].parameters()} == {torch.float16}
    assert {p.dtype for p in networks["video_dit"].parameters()} == {torch.bfloat16}
    expected = weights_of(GOLDEN, "video_dit")["head.head.weight"].to(torch.bfloat16)
    assert torch.equal(networks["video_dit"].state_dict()["head.head.weight"], expected)
    kept = load_components(
        layout, {"video_dit": torch.bfloat16}, skip=[n for n in NETWORKS if not n.startswith("video_dit")]
    )
    assert kept["video_dit"].dtype == torch.bfloat16
    assert kept["video_dit_2"].dtype == torch.float32


def test_text_encoder_in_half_precision_keeps_the_layers_that_would_overflow_in_float32() -> None:
    encoder = load_component(read_layout(GOLDEN), "text_encoder", torch.float16)
    dtypes = {"wo" in name.split("."): parameter.dtype for name, parameter in encoder.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.float16}


def test_a_dtype_for_no_component_is_refused() -> None:
    with pytest.raises(InputError, match=r"'transformer'.*expected 'default' or one of video_dit"):
        load_components(read_layout(GOLDEN), {"transformer": torch.float16})


def test_weights_go_to_the_device_that_is_named() -> None:
    network = load_component(read_layout(GOLDEN), "audio_dit", torch.bfloat16, device="meta")
    assert {(parameter.device.type, parameter.dtype) for parameter in network.parameters()} == {
        ("meta", torch.bfloat16)
    }
    assert load_component(read_layout(GOLDEN), "audio_vae", device="meta").device.type == "meta"


def test_progress_ends_at_the_bytes_of_each_component() -> None:
    layout = read_layout(GOLDEN)
    calls: list[tuple[str, int, int]] = []
    load_components(layout, progress=lambda *call: calls.append(call))
    for name, component in layout.components.items():
        done = [done for called, done, _ in calls if called == name]
        assert done == sorted(done)
        assert done[-1] == component.nbytes == sum(tensor.nbytes for tensor in weights_of(GOLDEN, name).values())


def test_writing_to_loaded_weights_leaves_the_file_alone(tmp_path: Path) -> None:
    root = copy_golden(tmp_path)
    before = (root / "audio_dit" / WEIGHTS).read_bytes()
    tower = load_component(read_layout(root), "audio_dit")
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(1.0)
    assert (root / "audio_dit" / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize(("name", "stem"), [("video_dit", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_sharded_equals_unsharded(tmp_path: Path, name: str, stem: str) -> None:
    root = copy_golden(tmp_path)
    split_weights(root / name, stem, shards=3)
    state = load_component(read_layout(root), name).state_dict()
    for key, expected in weights_of(GOLDEN, name).items():
        assert torch.equal(state[key], expected), key


def test_an_index_wins_over_a_single_file_beside_it(tmp_path: Path) -> None:
    root = copy_golden(tmp_path)
    split_weights(root / "video_dit", "diffusion_pytorch_model", shards=2)
    (root / "video_dit" / WEIGHTS).write_bytes(b"left over from an earlier save")
    load_component(read_layout(root), "video_dit")


@pytest.mark.parametrize(
    "suffixes",
    [(".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1")],
)
def test_weight_norm_is_fused_while_loading(tmp_path: Path, suffixes: tuple[str, str]) -> None:
    root = copy_golden(tmp_path)
    plain = weights_of(root, "audio_vae")
    save_file(with_weight_norm(plain, suffixes), root / "audio_vae" / WEIGHTS)
    edit_json(root / "audio_vae" / "config.json", lambda config: config.update(use_weight_norm=True))
    vae = load_component(read_layout(root), "audio_vae")
    assert vae.config.use_weight_norm is False
    state = vae.state_dict()
    assert set(state) == set(plain)
    for key, expected in plain.items():
        torch.testing.assert_close(state[key], expected, rtol=1e-6, atol=1e-7)


class Counting(ModelMixin, ConfigMixin):
    """A network with every kind of tensor: a weight, two buffers that are saved, and one that is computed."""

    @register_to_config
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("positions", torch.arange(width), persistent=False)


def test_buffers_are_loaded_or_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIFFUSERS_CLASSES, "Counting", Counting)
    (tmp_path / "counting").mkdir()
    (tmp_path / "counting" / "config.json").write_text('{"_class_name": "Counting", "width": 3}')
    stored = {"weight": torch.rand(3), "scale": torch.rand(3), "steps": torch.tensor(7)}
    save_file(stored, tmp_path / "counting" / WEIGHTS)
    component = read_component(tmp_path, "counting", "Counting")
    layout = CheckpointLayout(tmp_path, {"counting": component}, "T5TokenizerFast", {}, PipelineScalars())
    network = load_component(layout, "counting", torch.float64)
    assert torch.equal(network.weight, stored["weight"].double())
    assert torch.equal(network.scale, stored["scale"].double())
    assert torch.equal(network.steps, stored["steps"])
    assert torch.equal(network.positions, torch.arange(3))


def test_tensors_that_are_empty_or_misaligned_are_read_too(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
        "c": {"dtype": "F32", "shape": [0, 3], "data_offsets": [9, 9]},
    }
    text = json.dumps(header).encode()
    file = tmp_path / WEIGHTS
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\7" + struct.pack("<2f", 1.5, -2.0))
    entries, reader = read_entries(tmp_path, Path(WEIGHTS).stem), TensorReader()
    assert reader.mapped(entries["a"]).tolist() == [7]
    assert reader.mapped(entries["b"]).tolist() == [1.5, -2.0]
    assert reader.mapped(entries["c"]).shape == (0, 3)


def test_reading_in_chunks_equals_reading_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import phonofilm.models.shards as shards

    monkeypatch.setattr(shards, "CHUNK_BYTES", 64)
    entry = read_entries(GOLDEN / "video_dit", "diffusion_pytorch_model")["blocks.0.ffn.0.weight"]
    whole = weights_of(GOLDEN, "video_dit")[entry.key]
    reader = TensorReader()
    assert torch.equal(reader.converted(entry, torch.bfloat16, torch.device("cpu")), whole.to(torch.bfloat16))


def test_the_tokenizer_is_the_one_of_the_file(golden: Golden) -> None:
    tokenizer = load_tokenizer(read_layout(golden.checkpoint))
    assert tokenizer(golden.meta["prompt"]).input_ids == golden["text/ids"].tolist()


def test_the_types_of_a_header_are_those_that_are_read() -> None:
    assert {name: dtype.itemsize for name, dtype in TENSOR_DTYPES.items()} == ITEM_BYTES
