"""Checkpoints as other tools look for them: by the names and shapes in their own code, listed here."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from tests.conftest import GOLDENS
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.models.exporting import export_for_tool
from phonofilm.models.layout import COMPONENT_CLASSES, CheckpointLayout, read_layout

CHECKPOINT = GOLDENS / "basic" / "checkpoint"
# SGLang: MOVAPipeline._required_config_modules.
SGLANG = (
    *("video_vae", "audio_vae", "text_encoder", "tokenizer", "scheduler"),
    *("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge"),
)
# DiffSynth-Studio: origin_file_pattern of its MOVA examples.
DIFFSYNTH = (
    "video_dit/diffusion_pytorch_model-*.safetensors",
    "video_dit_2/diffusion_pytorch_model-*.safetensors",
    "audio_dit/diffusion_pytorch_model.safetensors",
    "dual_tower_bridge/diffusion_pytorch_model.safetensors",
    "audio_vae/diffusion_pytorch_model.safetensors",
)
# ComfyUI: what it tells a Wan 2.1/2.2 I2V model by, and reads its sizes from; heads of 128 and the rest by shape.
WAN_KEYS = (
    "head.modulation",
    "head.head.weight",
    "patch_embedding.weight",
    "text_embedding.0.weight",
    "time_embedding.0.weight",
    "time_projection.1.weight",
    "blocks.0.self_attn.q.weight",
    "blocks.0.self_attn.norm_q.weight",
    "blocks.0.cross_attn.k.weight",
    "blocks.0.ffn.0.weight",
    "blocks.0.norm3.weight",
    "blocks.0.modulation",
)


@pytest.fixture(scope="module")
def layout() -> CheckpointLayout:
    return read_layout(CHECKPOINT)


def test_sglang_finds_every_folder_and_no_key_it_does_not_know(layout: CheckpointLayout, tmp_path: Path) -> None:
    folder = export_for_tool(layout, "sglang", tmp_path / "out")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    modules = [key for key, value in index.items() if isinstance(value, list)]
    assert sorted(modules) == sorted(SGLANG) == sorted(COMPONENT_CLASSES)
    assert all((folder / name).is_dir() for name in SGLANG)
    assert not set(index) - {*SGLANG, "_class_name", "_diffusers_version", "boundary_ratio", "audio_vae_type"}
    assert read_layout(folder).components.keys() == layout.components.keys()


def test_diffsynths_patterns_find_the_same_tensors(layout: CheckpointLayout, tmp_path: Path) -> None:
    folder = export_for_tool(layout, "diffsynth", tmp_path / "out")
    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*.safetensors")]
    for pattern in DIFFSYNTH:
        found = fnmatch.filter(files, pattern)
        entries = layout.components[pattern.partition("/")[0]].entries
        shapes = {}
        for file in found:
            with safe_open(folder / file, "pt") as opened:
                shapes |= {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
        assert shapes == {key: entry.shape for key, entry in entries.items()}
    assert len(files) == sum(len(fnmatch.filter(files, pattern)) for pattern in DIFFSYNTH)


def test_comfyui_finds_a_wan_model_in_each_expert(layout: CheckpointLayout, tmp_path: Path) -> None:
    folder = export_for_tool(layout, "comfyui", tmp_path / "out")
    files = sorted((folder / "diffusion_models").iterdir())
    assert [file.name for file in files] == ["checkpoint_high_noise.safetensors", "checkpoint_low_noise.safetensors"]
    for file, name in zip(files, ("video_dit", "video_dit_2"), strict=True):
        with safe_open(file, "pt") as opened, safe_open(CHECKPOINT / name / _only_file(name), "pt") as source:
            keys = set(opened.keys())
            assert set(WAN_KEYS) <= keys == set(source.keys())
            assert all(opened.get_tensor(key).equal(source.get_tensor(key)) for key in keys)


def test_a_file_is_named_after_the_model_and_not_after_a_folder_in_a_cache(
    layout: CheckpointLayout, tmp_path: Path
) -> None:
    folder = export_for_tool(layout, "comfyui", tmp_path / "out", "MOVA-360p")
    assert sorted(file.name for file in (folder / "diffusion_models").iterdir()) == [
        "MOVA-360p_high_noise.safetensors",
        "MOVA-360p_low_noise.safetensors",
    ]


def test_a_folder_that_is_there_and_an_unknown_tool_are_refused(layout: CheckpointLayout, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use one of sglang, diffsynth, comfyui"):
        export_for_tool(layout, "gguf", tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        export_for_tool(layout, "sglang", tmp_path)
    command = ["models", "export", str(CHECKPOINT), "--for", "comfyui", "-o", str(tmp_path / "new")]
    assert CliRunner().invoke(app, command).stdout.split() == [str(tmp_path / "new")]


def _only_file(name: str) -> str:
    (file,) = (CHECKPOINT / name).glob("*.safetensors")
    return file.name
