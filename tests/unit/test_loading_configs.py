"""Indexes and configs that are broken, foreign or made for something else: each has its own message, and nothing is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tests.unit.checkpoints import copy_golden, edit_json, edit_weights, refused

from phonofilm.models.layout import read_layout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_golden(tmp_path)


@pytest.mark.parametrize(
    "file", ["model_index.json", "video_dit/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"]
)
def test_corrupt_json(root: Path, file: str) -> None:
    (root / file).write_text('{"dim": 48,')
    refused(root, f"{file} cannot be read as JSON: ")


def test_json_that_is_no_object(root: Path) -> None:
    (root / "video_dit" / "config.json").write_text("[1, 2]")
    refused(root, "video_dit/config.json holds a JSON list; expected an object")


def test_a_foreign_class_is_named_and_not_imported(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"open({str(tmp_path / 'ran')!r}, 'w'); raise SystemExit('imported')"
    (tmp_path / "foreign_networks.py").write_text(source)
    (root / "video_dit" / "foreign_networks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    edit_json(root / "model_index.json", lambda index: index.update(video_dit=["foreign_networks", "WanModel"]))
    refused(
        root,
        "says that video_dit is a foreign_networks.WanModel, which is not known and was not imported; expected mova",
    )
    assert "foreign_networks" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_a_known_class_in_the_wrong_place(root: Path) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(video_dit=index["audio_dit"]))
    refused(root, "says that video_dit is a mova.diffusion.models.wan_audio_dit.WanAudioModel")


def test_an_unknown_component(root: Path) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(image_encoder=["transformers", "CLIPVisionModel"]))
    refused(root, r"names an unknown component, image_encoder: \['transformers', 'CLIPVisionModel'\]")


def test_an_empty_slot_for_an_unknown_component_is_fine(root: Path) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(image_encoder=[None, None]))
    read_layout(root)


def test_a_component_the_index_does_not_name(root: Path) -> None:
    edit_json(root / "model_index.json", lambda index: index.pop("audio_dit"))
    refused(root, "does not name audio_dit; expected all of video_dit, ")


def test_another_pipeline(root: Path) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(_class_name="WanPipeline"))
    refused(root, "describes a WanPipeline pipeline; expected MOVA")


@pytest.mark.parametrize("value", [1.5, -0.1, "0.9", None])
def test_a_boundary_that_is_no_ratio(root: Path, value: object) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(boundary_ratio=value))
    refused(root, "has boundary_ratio .*; expected a number between 0 and 1")


def test_another_audio_vae(root: Path) -> None:
    edit_json(root / "model_index.json", lambda index: index.update(audio_vae_type="oobleck"))
    refused(root, "has audio_vae_type 'oobleck'; the released models have 'dac'")


def test_a_config_of_another_class(root: Path) -> None:
    edit_json(root / "video_dit" / "config.json", lambda config: config.update(_class_name="WanTransformer3DModel"))
    refused(root, "video_dit/config.json has _class_name 'WanTransformer3DModel'; expected 'WanModel'")
    edit_json(root / "video_dit" / "config.json", lambda config: config.update(_class_name="WanModel"))
    edit_json(root / "text_encoder" / "config.json", lambda config: config.update(model_type="t5"))
    refused(root, "text_encoder/config.json has model_type 't5'; expected 'umt5'")


def test_a_config_without_a_size(root: Path) -> None:
    edit_json(root / "video_dit" / "config.json", lambda config: [config.pop(key) for key in ("dim", "num_layers")])
    refused(root, "lacks dim, num_layers; a WanModel needs all of dim, in_dim, ")


@pytest.mark.parametrize(("key", "value"), [("num_heads", 0), ("dim", "wide"), ("dim", -8), ("patch_size", 3)])
def test_a_config_of_no_possible_network(root: Path, key: str, value: object) -> None:
    edit_json(root / "video_dit" / "config.json", lambda config: config.update({key: value}))
    refused(root, "video_dit/config.json describes no WanModel that can be built")


def test_an_unknown_config_key_is_said_and_ignored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit_json(root / "video_dit" / "config.json", lambda config: config.update(new_option=True, _private=1))
    read_layout(root, skip=("video_dit_2",))
    assert ["new_option" in record.getMessage() for record in caplog.records] == [True]


def test_components_of_different_models(root: Path) -> None:
    edit_json(root / "text_encoder" / "config.json", lambda config: config.update(d_model=16))
    edit_weights(
        root / "text_encoder" / "model.safetensors",
        lambda state: state.update({key: narrowed(key, tensor, 16) for key, tensor in state.items()}),
    )
    refused(root, "do not fit together: video_dit has text_dim 32, text_encoder has d_model 16")


def narrowed(key: str, tensor: torch.Tensor, width: int) -> torch.Tensor:
    """A tensor of the text encoder cut to another model width: every axis that has the old width, save inside attention."""
    if key.endswith("relative_attention_bias.weight"):
        return tensor
    if key.endswith(("q.weight", "k.weight", "v.weight", "wi_0.weight", "wi_1.weight", "shared.weight")):
        return tensor[:, :width]
    return tensor[:width]
