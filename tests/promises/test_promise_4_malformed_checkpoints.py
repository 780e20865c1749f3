"""Checkpoint folders whose JSON or headers are broken or made to harm: one line, at once, and nothing loaded or run."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import transformers
from tests.unit.checkpoints import WEIGHTS, copy_golden, edit_json

from phonofilm.errors import CheckpointError
from phonofilm.models.building import empty_module
from phonofilm.models.health import health
from phonofilm.models.hub import PACKAGED_WEIGHTS
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_tokenizer
from phonofilm.models.scalars import DEFAULTS_KEYS, SCHEDULER_KEYS
from phonofilm.pipeline.call_arguments import Defaults
from phonofilm.pipeline.schedule import FlowMatchPairScheduler

JSON_FILES = (
    "model_index.json",
    "video_vae/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
)
SECONDS = 5.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_golden(tmp_path)


def refused(root: Path, message: str) -> None:
    """Refused within seconds, in one line, by the reader and in the report."""
    begun = time.process_time()
    with pytest.raises(CheckpointError, match=message) as caught:
        load_tokenizer(read_layout(root))
    assert time.process_time() - begun < SECONDS
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("file", JSON_FILES)
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "1" * 5000 + "}", '{"a": NaN}', '{"a": 1e999}', "\xff"]
)
def test_json_beyond_bounds(root: Path, file: str, text: str) -> None:
    (root / file).write_bytes(text.encode("latin-1"))
    refused(root, f"{file} cannot be read as JSON")
    assert any("cannot be read as JSON" in finding.message for finding in health(root))


def test_a_header_beyond_bounds(root: Path) -> None:
    for text in (
        b'{"a":' * 50_000,
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 4]}}',
    ):
        (root / "video_vae" / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)
        refused(root, "corrupt safetensors header")


@pytest.mark.parametrize("shape", [[1.0], [True], [-1, -1], [1] * 20, ["1"], [[1]], None])
def test_a_shape_that_is_none(root: Path, shape: Any) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (root / "video_vae" / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    refused(root, "corrupt safetensors header")


@pytest.mark.parametrize(
    ("component", "key"),
    [
        ("video_dit", "num_layers"),
        ("audio_dit", "num_layers"),
        ("text_encoder", "num_layers"),
        ("dual_tower_bridge", "visual_layers"),
        ("dual_tower_bridge", "audio_layers"),
        ("video_vae", "num_res_blocks"),
    ],
)
@pytest.mark.parametrize("value", [1_000_000, 10**30, 5000])
def test_more_layers_than_the_file_has_tensors_are_not_built(root: Path, component: str, key: str, value: int) -> None:
    edit_json(root / component / "config.json", lambda config: config.update({key: value}))
    refused(root, f"{key} is ")


@pytest.mark.parametrize(
    ("component", "key", "value"),
    [
        ("video_vae", "scale_factor_temporal", [-1]),
        ("video_vae", "scale_factor_temporal", -1),
        ("video_vae", "scale_factor_spatial", None),
        ("video_vae", "scale_factor_spatial", 0),
        ("video_vae", "latents_mean", [0.0]),
        ("video_vae", "latents_std", [0.0] * 16),
        ("video_vae", "latents_std", "many"),
        ("video_vae", "dim_mult", [1] * 5000),
        ("video_vae", "temperal_downsample", 3),
        ("audio_vae", "encoder_rates", [2, 3, 4, 5, "8"]),
        ("audio_vae", "encoder_rates", [[2], 3, 4, 5, 8]),
        ("audio_vae", "sample_rate", [48000]),
        ("audio_vae", "sample_rate", 1),
        ("video_dit", "patch_size", [1, 2]),
        ("video_dit", "patch_size", [1, 2, 10**30]),
        ("video_dit", "dim", 10**12),
        ("video_dit", "eps", "small"),
        ("video_dit", "quantization_config", [1]),
        ("video_dit", "quantization_config", {"quant_method": "bitsandbytes"}),
        ("audio_dit", "vae_type", ["dac"]),
        ("dual_tower_bridge", "interaction_strategy", [1]),
        ("dual_tower_bridge", "audio_fps", {}),
        ("text_encoder", "dtype", [1]),
        ("text_encoder", "dtype", "object"),
        ("text_encoder", "d_model", {}),
        ("text_encoder", "vocab_size", 10**20),
        ("text_encoder", "dense_act_fn", "import os"),
    ],
)
def test_a_value_of_the_wrong_kind(root: Path, component: str, key: str, value: Any) -> None:
    edit_json(root / component / "config.json", lambda config: config.update({key: value}))
    refused(root, "config.json")


@pytest.mark.parametrize(
    "defaults", [[], "x", {"colour": 1}, {"height": "tall"}, {"height": 10**9}, {"frame_rate": True}]
)
def test_defaults_of_no_use(root: Path, defaults: Any) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(defaults=defaults))
    refused(root, r"model_index.json .*defaults")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta", 1),
        ("num_train_timesteps", 10**9),
        ("shift", "5"),
        ("shift", 0),
        ("shift", None),
        ("extra_one_step", None),
        ("sigma_max", [1]),
    ],
)
def test_a_scheduler_of_no_use(root: Path, key: str, value: Any) -> None:
    edit_json(root / "scheduler" / "scheduler_config.json", lambda config: config.update({key: value}))
    refused(root, f"scheduler_config.json has .*{key}")


def test_the_known_keys_are_those_of_the_classes_that_read_them() -> None:
    assert set(DEFAULTS_KEYS) == {field.name for field in fields(Defaults)}
    assert set(SCHEDULER_KEYS) == set(FlowMatchPairScheduler._get_init_keys(FlowMatchPairScheduler)) - {"self"}


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.clear(),
        lambda content: content.update(model=[]),
        lambda content: content["model"].update(type="Unknown"),
        lambda content: content["model"].update(vocab=[1, 2]),
        lambda content: content["model"].update(vocab={"a": "b"}),
        lambda content: content.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        lambda content: content.update(added_tokens=[{"id": "x"}]),
        lambda content: content.update(decoder=7),
    ],
)
def test_a_tokenizer_of_the_wrong_shape(root: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    edit_json(root / "tokenizer" / "tokenizer.json", edit)
    refused(root, "tokenizer")


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "tokenizer_file", "gguf_file", "fix_mistral_regex"])
def test_a_tokenizer_may_not_choose_code_or_other_files(root: Path, key: str) -> None:
    edit_json(root / "tokenizer" / "tokenizer_config.json", lambda config: config.update({key: "elsewhere"}))
    refused(root, f"has {key}")


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"])
def test_a_text_encoder_may_not_choose_its_implementation(
    root: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    for name in ("load_and_register_attn_kernel", "get_kernel"):
        for module in ("transformers.integrations.hub_kernels", "transformers.modeling_utils"):
            monkeypatch.setattr(f"{module}.{name}", lambda *a, **k: asked.append(a), raising=False)
    path = root / "text_encoder" / "config.json"
    edit_json(
        path, lambda config: config.update({key: "kernels-community/flash-attn2", "auto_map": {"AutoModel": "x.Y"}})
    )
    read_layout(root)
    module = empty_module("UMT5EncoderModel", json.loads(path.read_text()), str(path))
    assert not asked
    assert isinstance(module, transformers.UMT5EncoderModel)
    assert module.config._attn_implementation in ("eager", "sdpa", None)
    assert not hasattr(module.config, "auto_map")


@pytest.mark.parametrize(
    "name", ["x" * 5000 + ".safetensors", "../video_dit/" + WEIGHTS, "/dev/zero", "a\0.safetensors"]
)
def test_an_index_that_names_other_places(root: Path, name: str) -> None:
    (root / "video_vae" / WEIGHTS).unlink()
    index = root / "video_vae" / (WEIGHTS + ".index.json")
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    refused(root, "expected safetensors files in the same folder")


def test_the_embedded_model_passes_all_of_this() -> None:
    load_tokenizer(read_layout(PACKAGED_WEIGHTS))
