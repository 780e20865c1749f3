"""Weights that are broken: each kind of damage has its own message, before any of them is read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from tests.unit.checkpoints import WEIGHTS, copy_golden, edit_json, edit_weights, refused, split_weights

from phonofilm.errors import CheckpointError
from phonofilm.models.health import health, is_loadable
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_component


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_golden(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "is not a folder; give a checkpoint folder, a hub id, or one of")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    refused(tmp_path, r"has no model_index.json; it is no checkpoint")


def test_a_missing_component(root: Path) -> None:
    (root / "dual_tower_bridge").rename(root / "bridge")
    refused(root, "the component dual_tower_bridge is missing: there is no folder")


@pytest.mark.parametrize("name", ["tokenizer", "scheduler"])
def test_a_missing_tokenizer_or_scheduler(root: Path, name: str) -> None:
    (root / name).rename(root / "elsewhere")
    refused(root, f"the component {name} is missing: there is no folder")


def test_a_missing_config(root: Path) -> None:
    (root / "audio_dit" / "config.json").unlink()
    refused(root, r"audio_dit/config.json is missing")


def test_missing_weights(root: Path) -> None:
    (root / "audio_dit" / WEIGHTS).unlink()
    refused(root, r"audio_dit has no weights; expected diffusion_pytorch_model.safetensors, or ")


def test_a_missing_shard(root: Path) -> None:
    split_weights(root / "video_dit", "diffusion_pytorch_model", shards=3)
    (root / "video_dit" / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    refused(root, "1 of 3 shards that .* names are missing: diffusion_pytorch_model-00002-of-00003.safetensors")


def test_shards_without_their_index(root: Path) -> None:
    split_weights(root / "video_dit", "diffusion_pytorch_model", shards=2)
    (root / "video_dit" / f"{WEIGHTS}.index.json").unlink()
    refused(
        root,
        r"has diffusion_pytorch_model-00001-of-00002.safetensors, .* but no diffusion_pytorch_model.safetensors.index",
    )


def test_an_index_that_points_out_of_the_folder(root: Path) -> None:
    split_weights(root / "video_dit", "diffusion_pytorch_model", shards=2)
    edit_json(
        root / "video_dit" / f"{WEIGHTS}.index.json",
        lambda index: index["weight_map"].update({"head.head.bias": f"../video_dit_2/{WEIGHTS}"}),
    )
    refused(root, "expected safetensors files in the same folder")


def test_an_index_that_does_not_match_its_shards(root: Path) -> None:
    split_weights(root / "video_dit", "diffusion_pytorch_model", shards=2)
    edit_json(
        root / "video_dit" / f"{WEIGHTS}.index.json",
        lambda index: index["weight_map"].update(
            {
                "head.head.bias": "diffusion_pytorch_model-00001-of-00002.safetensors",
                "blocks.0.gone": index["weight_map"]["head.head.bias"],
            }
        ),
    )
    refused(root, "places .*blocks.0.gone.* in shards that do not hold them")


def test_an_index_without_a_map(root: Path) -> None:
    (root / "video_dit" / f"{WEIGHTS}.index.json").write_text("{}")
    refused(root, "has no weight_map")


def test_a_key_in_two_shards(root: Path) -> None:
    split_weights(root / "video_dit", "diffusion_pytorch_model", shards=2)
    edit_weights(
        root / "video_dit" / "diffusion_pytorch_model-00001-of-00002.safetensors",
        lambda state: state.update({"head.head.weight": torch.zeros(1), "head.head.bias": torch.zeros(1)}),
    )
    refused(root, r"head.head.\w+ is in both diffusion_pytorch_model-00001-of-00002.safetensors and")


def test_unknown_keys_are_listed(root: Path) -> None:
    edit_weights(
        root / "video_dit" / WEIGHTS, lambda state: state.update({f"extra.{i}": torch.zeros(1) for i in range(7)})
    )
    refused(
        root,
        "weights of video_dit do not fit .*: 7 unknown keys: extra.0, extra.1, extra.2, extra.3, extra.4 and 2 more",
    )


def test_missing_keys_are_listed(root: Path) -> None:
    edit_weights(
        root / "audio_dit" / WEIGHTS,
        lambda state: [state.pop(key) for key in ("head.head.bias", "blocks.0.modulation")],
    )
    refused(root, "weights of audio_dit do not fit .*: 2 missing keys: blocks.0.modulation, head.head.bias")


def test_a_wrong_shape_is_told_with_the_right_one(root: Path) -> None:
    edit_weights(root / "audio_dit" / WEIGHTS, lambda state: state.update({"head.head.bias": torch.zeros(5)}))
    refused(root, r"1 tensors of the wrong shape or type: head.head.bias is \[5\], expected \[16\]")


def test_integers_where_weights_belong(root: Path) -> None:
    edit_weights(
        root / "audio_dit" / WEIGHTS, lambda state: state.update({"head.head.bias": torch.zeros(16, dtype=torch.int8)})
    )
    refused(root, "head.head.bias holds torch.int8, expected torch.float32")


def test_half_of_a_weight_normalised_pair(root: Path) -> None:
    edit_weights(
        root / "audio_vae" / WEIGHTS,
        lambda state: state.update({"decoder.model.0.weight_g": state.pop("decoder.model.0.weight")[:, :1, :1]}),
    )
    refused(root, "has decoder.model.0.weight_g but not decoder.model.0.weight_v; weight norm needs both")


def test_a_truncated_file(root: Path) -> None:
    file = root / "video_vae" / WEIGHTS
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refused(root, f"is truncated: it has {len(content) // 2:,} bytes, its header declares {len(content):,}")
    file.write_bytes(content[:2000])
    refused(root, "is truncated inside its header")
    file.write_bytes(content[:5])
    refused(root, "it starts with no header length")


def test_a_file_with_more_than_its_tensors(root: Path) -> None:
    with (root / "video_vae" / WEIGHTS).open("ab") as stream:
        stream.write(b"more")
    refused(root, "is too long")


@pytest.mark.parametrize(
    "header",
    [
        b"{not json at all",
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": [1, 2]}',
    ],
)
def test_a_corrupt_header(root: Path, header: bytes) -> None:
    (root / "video_vae" / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    refused(root, "has a corrupt safetensors header")


@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt"])
def test_a_pickle_alone_is_refused_and_never_opened(root: Path, suffix: str) -> None:
    (root / "audio_vae" / WEIGHTS).unlink()
    (root / "audio_vae" / f"diffusion_pytorch_model.{suffix}").write_bytes(b"anything")
    refused(root, f"only as a pickle .diffusion_pytorch_model.{suffix}., which can run code when opened and is refused")


def test_a_pickle_beside_safetensors_is_ignored_with_a_warning(root: Path) -> None:
    (root / "audio_vae" / "old.bin").write_bytes(b"anything")
    read_layout(root)
    assert [f.message for f in health(root) if f.severity == "warning"] == [
        "pickles beside the weights are never read: old.bin"
    ]


def test_skipped_components_are_not_checked(root: Path) -> None:
    (root / "text_encoder" / "model.safetensors").unlink()
    layout = read_layout(root, skip=("text_encoder", "tokenizer"))
    assert "text_encoder" not in layout.components
    with pytest.raises(CheckpointError, match="has no network 'text_encoder'; it has video_dit, "):
        load_component(layout, "text_encoder")


def test_a_file_that_shrinks_after_the_check_is_noticed(root: Path) -> None:
    layout = read_layout(root)
    file = root / "audio_dit" / WEIGHTS
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(CheckpointError, match=r"ended while .* was read"):
        load_component(layout, "audio_dit", torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"ended before .*: it changed since it was checked"):
        load_component(layout, "audio_dit")


def test_a_deep_check_finds_numbers_that_are_none(root: Path) -> None:
    assert is_loadable(health(root, deep=True))
    edit_weights(root / "audio_dit" / WEIGHTS, lambda state: state["head.head.bias"].fill_(float("nan")))
    assert is_loadable(health(root))
    errors = [finding for finding in health(root, deep=True) if finding.severity == "error"]
    assert [(f.subject, f.message) for f in errors] == [("audio_dit", "1 tensors hold NaN or infinity: head.head.bias")]
