"""Every layout of LoRA file is read, its layers land where they belong, and whatever is left over is an error."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from tests.unit.lora_helpers import named, tiny_components, tiny_lora, write
from torch import nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Layout, LoraFile
from phonofilm.lora.reading import read_lora
from phonofilm.lora.tensor_names import to_diffusers

A, B = ".lora_A.weight", ".lora_B.weight"


@pytest.fixture(scope="module")
def model() -> dict[str, nn.Module]:
    return tiny_components()


def everything(lora: LoraFile, down: str, up: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for component in lora.adapters:
        tensors |= named(lora, component, "{component}.{path}", down, up)
    return tensors


def same(read: LoraFile, lora: LoraFile, components: dict[str, str] | None = None) -> bool:
    """Whether `read` holds the adapters of `lora`, with components renamed."""
    moved = {(components or {}).get(c, c): layers for c, layers in lora.adapters.items()}
    return read.equals(LoraFile(read.layout, moved, read.metadata))


@pytest.mark.parametrize("middle", ["", ".default"])
def test_original_accelerate_takes_rank_from_tensors_and_alpha_from_config(
    model: dict[str, nn.Module], tmp_path: Path, middle: str
) -> None:
    lora = tiny_lora(model, rank=4, alpha=16.0)
    torch.save(everything(lora, f".lora_A{middle}.weight", f".lora_B{middle}.weight"), tmp_path / "lora_weights.pt")
    torch.save({"rank": "MOVATrain", "alpha": 16.0, "target_modules": []}, tmp_path / "lora_config.pt")
    for path in (tmp_path, tmp_path / "lora_weights.pt"):
        read = read_lora(path, model)
        assert read.layout is Layout.ORIGINAL
        assert same(read, lora)
    assert {a.alpha for _, _, a in read_lora(tmp_path, model, alpha=8).items()} == {8}


def test_original_without_config_has_the_originals_alpha(model: dict[str, nn.Module], tmp_path: Path) -> None:
    torch.save(everything(tiny_lora(model), A, B), tmp_path / "lora_weights.pt")
    assert {a.alpha for _, _, a in read_lora(tmp_path, model).items()} == {16.0}


def test_original_low_resource_is_believed(model: dict[str, nn.Module], tmp_path: Path) -> None:
    lora = tiny_lora(model, rank=3, alpha=9.0)
    content = {"lora_state_dict": everything(lora, ".lora_A", ".lora_B"), "rank": 3, "alpha": 9.0, "dropout": 0.0}
    torch.save({**content, "target_modules": ["q", "k"]}, tmp_path / "lora_weights.pt")
    read = read_lora(tmp_path / "lora_weights.pt", model)
    assert read.layout is Layout.LOW_RESOURCE
    assert same(read, lora)


def test_diffsynth_is_for_the_high_expert_unless_the_user_says_otherwise(
    model: dict[str, nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lora = tiny_lora(model, alpha=4.0, only=["video_dit"])
    file = write(
        named(lora, "video_dit", "{path}", ".lora_A.default.weight", ".lora_B.default.weight"),
        tmp_path / "s.safetensors",
    )
    read = read_lora(file, model)
    assert read.layout is Layout.DIFFSYNTH
    assert same(read, lora)
    assert caplog.text.count("taken for the high expert") == 1
    assert same(read_lora(file, model, expert="low"), lora, {"video_dit": "video_dit_2"})


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise", "video_dit_2"),
        ("wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise", "video_dit"),
        ("Wan2.2-Lightning_I2V-A14B-4steps-lora_LOW_fp16", "video_dit_2"),
    ],
)
def test_a_files_name_says_for_which_expert_it_is_and_the_user_may_say_another(
    model: dict[str, nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, expert: str
) -> None:
    lora = tiny_lora(model, alpha=4.0, only=["video_dit"])
    tensors = named(lora, "video_dit", "{path}", ".lora_A.default.weight", ".lora_B.default.weight")
    file = write(tensors, tmp_path / f"{name}.safetensors")
    assert same(read_lora(file, model), lora, {"video_dit": expert})
    assert caplog.text == ""
    assert same(read_lora(file, model, expert="high"), lora)
    quiet = write(tensors, tmp_path / "low_key_light.safetensors")
    assert same(read_lora(quiet, model), lora)


@pytest.mark.parametrize(("name", "component"), [("transformer", "video_dit_2"), ("transformer_2", "video_dit")])
def test_videox_fun_numbers_the_experts_the_other_way_round(
    model: dict[str, nn.Module], tmp_path: Path, name: str, component: str
) -> None:
    lora = tiny_lora(model, alpha=4.0, only=["video_dit"])
    file = write(
        named(lora, "video_dit", "base_model.model.{path}", A, B), tmp_path / f"checkpoint-100-{name}.safetensors"
    )
    read = read_lora(file, model)
    assert read.layout is Layout.VIDEOX_FUN
    assert same(read, lora, {"video_dit": component})
    with pytest.raises(InputError, match=f"is for {component}"):
        read_lora(file, model, expert="high" if component == "video_dit_2" else "low")


def test_a_folder_of_videox_fun_files_is_one_lora(model: dict[str, nn.Module], tmp_path: Path) -> None:
    lora = tiny_lora(model, alpha=4.0)
    names = {"video_dit": "transformer_2", "video_dit_2": "transformer", "audio_dit": "transformer_audio"}
    for component in lora.adapters:
        name = names.get(component, component)
        write(named(lora, component, "{path}", A, B), tmp_path / f"checkpoint-7-{name}.safetensors")
    assert same(read_lora(tmp_path, model), lora)
    write(named(lora, "audio_dit", "{path}", A, B), tmp_path / "checkpoint-9-transformer_audio.safetensors")
    with pytest.raises(InputError, match="two LoRAs for audio_dit"):
        read_lora(tmp_path, model)


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_unet__"])
def test_kohya_names_are_looked_up_in_the_model(model: dict[str, nn.Module], tmp_path: Path, prefix: str) -> None:
    lora = tiny_lora(model, rank=4, alpha=1.5, only=["video_dit"])
    parts = named(lora, "video_dit", prefix + "{flat}", ".lora_down.weight", ".lora_up.weight", ".alpha")
    file = write(parts, tmp_path / "wan.safetensors")
    read = read_lora(file, model, expert="high")
    assert read.layout is Layout.KOHYA
    assert same(read, lora)
    with pytest.raises(InputError, match="name the model too"):
        read_lora(file)


def test_kohya_reads_the_bridge_whose_own_names_hold_underscores(model: dict[str, nn.Module], tmp_path: Path) -> None:
    lora = tiny_lora(model, only=["dual_tower_bridge"])
    parts = named(lora, "dual_tower_bridge", "lora_unet_{flat}", ".lora_down.weight", ".lora_up.weight", ".alpha")
    read = read_lora(write(parts, tmp_path / "b.safetensors"), model, expert="bridge")
    assert same(read, lora)


@pytest.mark.parametrize(
    ("form", "layout"),
    [
        ("base_model.model.{path}", Layout.PEFT),
        ("transformer.{path}", Layout.PEFT),
        ("{path}", Layout.PEFT),
        ("diffusion_model.{path}", Layout.COMFYUI),
        ("model.diffusion_model.{path}", Layout.COMFYUI),
    ],
)
def test_prefixes_come_off_and_alpha_is_the_rank_where_nothing_is_said(
    model: dict[str, nn.Module], tmp_path: Path, form: str, layout: Layout
) -> None:
    lora = tiny_lora(model, rank=4, alpha=4.0, only=["video_dit"])
    read = read_lora(write(named(lora, "video_dit", form, A, B), tmp_path / "x.safetensors"), model)
    assert read.layout is layout
    assert same(read, lora)


def test_diffusers_names_and_its_second_transformer_are_understood(model: dict[str, nn.Module], tmp_path: Path) -> None:
    lora = tiny_lora(model, rank=4, alpha=8.0, only=["video_dit", "video_dit_2"])
    tensors: dict[str, torch.Tensor] = {}
    for component, prefix in (("video_dit", "transformer."), ("video_dit_2", "transformer_2.")):
        for path, adapter in lora.adapters[component].items():
            tensors[prefix + to_diffusers(path) + A] = adapter.down
            tensors[prefix + to_diffusers(path) + B] = adapter.up
    settings = json.dumps({"transformer.r": 4, "transformer.lora_alpha": 8})
    read = read_lora(write(tensors, tmp_path / "d.safetensors", lora_adapter_metadata=settings), model)
    assert same(read, lora)
    assert any(key.startswith("transformer.blocks.0.attn2.to_out.0.") for key in tensors)


def test_comfyui_down_up_and_alpha_for_a_named_part(model: dict[str, nn.Module], tmp_path: Path) -> None:
    lora = tiny_lora(model, alpha=0.5, only=["audio_dit"])
    parts = named(lora, "audio_dit", "diffusion_model.{path}", ".lora_down.weight", ".lora_up.weight", ".alpha")
    file = write(parts, tmp_path / "voice.safetensors")
    assert same(read_lora(file, model, expert="audio"), lora)
    with pytest.raises(CheckpointError, match="have another shape; another model, or another --expert"):
        read_lora(file, model)
    with pytest.raises(InputError, match="expected one of high, low, audio, bridge"):
        read_lora(file, model, expert="voice")


def test_the_log_says_layout_component_and_counts(
    model: dict[str, nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(everything(tiny_lora(model, targets=("o",)), A, B), tmp_path / "lora_weights.pt")
    with caplog.at_level(logging.INFO, logger="phonofilm.lora.reading"):
        read_lora(tmp_path, model)
    assert "original layout, 8 adapters for video_dit" in caplog.text
    assert "6 adapters for audio_dit" in caplog.text
    assert "all 56 tensors used" in caplog.text


def test_anything_unmatched_is_an_error_that_names_the_first_five(model: dict[str, nn.Module], tmp_path: Path) -> None:
    good = named(tiny_lora(model, only=["video_dit"]), "video_dit", "video_dit.{path}", A, B)
    row, column = torch.zeros(2, 48), torch.ones(48, 2)

    def refused(extra: dict[str, torch.Tensor], message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            read_lora(write({**good, **extra}, tmp_path / "x.safetensors"), model)

    strange = {f"video_dit.blocks.{i}.norm.diff_b": torch.zeros(1) for i in range(7)}
    refused(strange, r"7 of its names are no part of a LoRA .*: (\S+, ){4}\S+ and 2 more")
    refused(
        {"video_dit.blocks.9.self_attn.q" + A: row, "video_dit.blocks.9.self_attn.q" + B: column}, "no linear layers"
    )
    refused({"text_encoder.q" + A: row, "text_encoder.q" + B: column}, "1 of its names name no component")
    refused({"video_dit.head.head" + A: row}, "video_dit.head.head lacks its lora_B")
    refused({"video_dit.head.head" + A: row, "video_dit.head.head" + B: torch.ones(48, 3)}, r"expected \[rank, in\]")
    refused({"video_dit.head.head" + A: row, "video_dit.head.head" + B: column}, "have another shape")


def test_a_lora_for_an_expert_that_the_model_lacks_is_refused(model: dict[str, nn.Module], tmp_path: Path) -> None:
    torch.save(everything(tiny_lora(model), A, B), tmp_path / "lora_weights.pt")
    with pytest.raises(CheckpointError, match="for video_dit_2, which this model does not have"):
        read_lora(tmp_path, {**model, "video_dit_2": None})


def test_empty_and_nan_are_refused(model: dict[str, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="empty LoRA"):
        read_lora(write({}, tmp_path / "empty.safetensors", made_by="hand"))
    lora = tiny_lora(model, targets=("q",))
    next(iter(lora.adapters["audio_dit"].values())).up[0, 0] = torch.nan
    torch.save(everything(lora, A, B), tmp_path / "lora_weights.pt")
    with pytest.raises(CheckpointError, match=r"audio_dit.*NaN"):
        read_lora(tmp_path)


class Trap:
    """Unpickled by a careless reader, this makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.file)!r}, 'w')",)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"x": Trap(tmp_path / "ran")}, tmp_path / "lora_weights.pt")
    with pytest.raises(CheckpointError, match="could run code"):
        read_lora(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_lora_file_is_said_to_be_none(tmp_path: Path) -> None:
    for name, message in (("none", "there is no LoRA"), ("", "holds no LoRA")):
        with pytest.raises(InputError, match=message):
            read_lora(tmp_path / name)
    (tmp_path / "x.txt").write_text("no")
    with pytest.raises(InputError, match=r"ends in \.safetensors or \.pt"):
        read_lora(tmp_path / "x.txt")
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_lora(tmp_path / "x.safetensors")
