"""Writing LoRA files: there and back is the identity in every layout, and nothing unfit is ever written."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.unit.lora_helpers import tiny_components, tiny_lora
from torch import nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import Layout, LoraFile
from phonofilm.lora.exporting import (
    EXPORTS,
    export_comfyui,
    export_diffusers,
    export_low_resource,
    export_original,
    export_peft,
)
from phonofilm.lora.reading import read_lora
from phonofilm.lora.tensor_names import to_diffusers
from phonofilm.lora.writing import save_lora, write_checked
from phonofilm.models.checksums import CHECKSUMS

# Where a scale is multiplied into lora_B, all is exact for powers of two, as alpha / rank usually is.
FOLDED = ("diffsynth", "videox-fun")
LAYOUTS = {"low-resource": Layout.LOW_RESOURCE, "diffusers": Layout.PEFT}


@pytest.fixture(scope="module")
def model() -> dict[str, nn.Module]:
    return tiny_components()


@pytest.fixture
def lora(model: dict[str, nn.Module]) -> LoraFile:
    return tiny_lora(
        model, rank=4, alpha=0.1, base_model="MOVA-360p", trigger_word="fóo", config_hash="ab12", steps="200"
    )


def mixed(lora: LoraFile) -> LoraFile:
    """The same with other ranks in the audio tower and another alpha for every second layer of the first expert."""
    video = {
        p: replace(a, alpha=2 * a.alpha) if number % 2 else a
        for number, (p, a) in enumerate(lora.adapters["video_dit"].items())
    }
    audio = {p: replace(a, down=a.down[:2], up=a.up[:, :2]) for p, a in lora.adapters["audio_dit"].items()}
    return replace(lora, adapters={**lora.adapters, "video_dit": video, "audio_dit": audio})


def test_our_own_layout_comes_back_as_it_was_and_says_what_it_is(lora: LoraFile, tmp_path: Path) -> None:
    file = save_lora(mixed(lora), tmp_path / "mine.safetensors")
    read = read_lora(file)
    assert read.layout is Layout.PHONOFILM
    assert read.equals(mixed(lora))
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert (header["format"], header["format_version"]) == ("phonofilm-lora", "1")
    assert header["trigger_word"] == "fóo"
    assert json.loads(header["rank"])["audio_dit"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.safetensors", "mine.safetensors.sha256"]
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("layout", EXPORTS)
@pytest.mark.parametrize("change", [lambda lora: lora, mixed], ids=["uniform", "mixed"])
def test_there_and_back_is_the_identity(
    model: dict[str, nn.Module],
    lora: LoraFile,
    tmp_path: Path,
    layout: str,
    change: Callable[[LoraFile], LoraFile],
) -> None:
    lora = change(lora.with_alpha(2.0) if layout in FOLDED else lora)
    written = EXPORTS[layout](lora, tmp_path / ("there.pt" if layout == "low-resource" else "there"))
    assert stat.S_IMODE(written.stat().st_mode) & 0o444 == 0o444
    read = read_lora(written, model)
    assert read.layout == LAYOUTS.get(layout, layout)
    back = save_lora(read, tmp_path / "back.safetensors")
    assert read_lora(back).equals(lora)


def test_the_original_does_the_same_with_its_one_alpha_and_rank(lora: LoraFile, tmp_path: Path) -> None:
    folder = export_original(mixed(lora), tmp_path / "there")
    weights = torch.load(folder / "lora_weights.pt", weights_only=True)
    config = torch.load(folder / "lora_config.pt", weights_only=True)
    for component, path, adapter in mixed(lora).items():
        name = f"{component}.{path}"
        theirs = (
            config["alpha"] / config["rank"] * (weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"])
        )
        assert (theirs - adapter.delta()).abs().max() < 1e-6


def test_comfyui_gets_one_file_per_part(lora: LoraFile, tmp_path: Path) -> None:
    folder = export_comfyui(lora, tmp_path / "there")
    assert sorted(p.name for p in folder.glob("*.safetensors")) == [
        f"{n}.safetensors" for n in ("audio", "bridge", "high_noise", "low_noise")
    ]
    low = load_file(folder / "low_noise.safetensors")
    path, adapter = next(iter(lora.adapters["video_dit_2"].items()))
    assert torch.equal(low[f"diffusion_model.{path}.lora_up.weight"], adapter.up)
    assert low[f"diffusion_model.{path}.alpha"].item() == adapter.alpha


def test_unfit_adapters_are_refused_with_the_reason(lora: LoraFile, tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    voice = lora.adapters["audio_dit"]
    first = next(iter(voice))

    def refused(layers: dict, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            save_lora(replace(lora, adapters={**lora.adapters, "audio_dit": layers}), target)

    refused({**voice, first: replace(voice[first], down=voice[first].down / 0)}, "NaN")
    refused({**voice, first: replace(voice[first], alpha=float("nan"))}, "NaN")
    refused({**voice, first: replace(voice[first], down=voice[first].down[:2])}, r"expected \[rank, in\]")
    refused({p: replace(a, up=a.up * 0) for p, a in voice.items()}, "every lora_B of audio_dit is zero")
    with pytest.raises(CheckpointError, match="empty LoRA"):
        save_lora(replace(lora, adapters={}), target)
    with pytest.raises(CheckpointError, match="may not be called rank"):
        save_lora(replace(lora, metadata={"rank": "7"}), target)
    with pytest.raises(CheckpointError, match="alpha of 0"):
        export_original(lora.with_alpha(0.0), tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_read_back_is_not_kept(lora: LoraFile, tmp_path: Path) -> None:
    other = lora.with_alpha(3.0)
    target = save_lora(lora, tmp_path / "x.safetensors")

    def write_another(temporary: Path) -> None:
        temporary.write_bytes(save_lora(other, tmp_path / "other.safetensors").read_bytes())

    with pytest.raises(CheckpointError, match="does not read back as it was"):
        write_checked(lora, target, write_another, overwrite=True)
    assert read_lora(target).equals(lora)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["other.safetensors", "x.safetensors"]


def test_existing_files_are_replaced_only_when_allowed_and_folders_never(lora: LoraFile, tmp_path: Path) -> None:
    target = save_lora(lora, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="allow overwriting"):
        save_lora(lora.with_alpha(3.0), target)
    save_lora(lora.with_alpha(3.0), target, overwrite=True)
    assert read_lora(target).equals(lora.with_alpha(3.0))
    with pytest.raises(InputError, match="exists already; choose another name"):
        export_peft(lora, tmp_path)
    with pytest.raises(InputError, match=r"end in \.safetensors"):
        save_lora(lora, tmp_path / "x.pt")


def test_a_file_of_ours_whose_ranks_or_version_are_false_is_refused(lora: LoraFile, tmp_path: Path) -> None:
    file = save_lora(lora, tmp_path / "x.safetensors")
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    for change, message in (
        ({"rank": json.dumps(dict.fromkeys(lora.adapters, 8))}, "another rank than stated: .* has rank 4, stated 8"),
        ({"format_version": "2"}, "version 2 of the layout"),
        ({"alpha": "{}"}, "states no alpha for"),
        ({"alpha": "no"}, "is no JSON"),
    ):
        save_file(load_file(file), tmp_path / "y.safetensors", {**header, **change})
        with pytest.raises(CheckpointError, match=message):
            read_lora(tmp_path / "y.safetensors")


@pytest.mark.parametrize("layout", EXPORTS)
def test_a_file_of_another_tool_comes_back_as_its_own_layout_key_by_key(
    model: dict[str, nn.Module], lora: LoraFile, tmp_path: Path, layout: str
) -> None:
    """There and back from the other side: their layout, ours, theirs again."""
    suffix = ".pt" if layout == "low-resource" else ""
    lora = lora.with_alpha(2.0) if layout in FOLDED else lora
    theirs = EXPORTS[layout](lora, tmp_path / f"theirs{suffix}")
    ours = save_lora(read_lora(theirs, model), tmp_path / "ours.safetensors")
    again = EXPORTS[layout](read_lora(ours), tmp_path / f"again{suffix}")
    files = [theirs] if suffix else sorted(f for f in theirs.rglob("*") if f.is_file() and f.name != CHECKSUMS)
    assert files
    for file in files:
        other = again if suffix else again / file.relative_to(theirs)
        if file.suffix == ".safetensors":
            one, two = load_file(file), load_file(other)
            assert one.keys() == two.keys()
            assert all(torch.equal(one[key], two[key]) for key in one)
        elif file.suffix == ".pt":
            assert_equal(torch.load(file, weights_only=True), torch.load(other, weights_only=True))
        else:
            assert file.read_bytes() == other.read_bytes()


def assert_equal(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert_equal(value, two[key])
    else:
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


def test_diffusers_itself_loads_what_is_written_for_it(
    model: dict[str, nn.Module], lora: LoraFile, tmp_path: Path
) -> None:
    lora = mixed(lora)
    file = export_diffusers(lora, tmp_path / "there") / "high_noise.safetensors"
    video = model["video_dit"]
    config = video.config
    theirs = WanTransformer3DModel(
        patch_size=tuple(config.patch_size),
        num_attention_heads=config.num_heads,
        attention_head_dim=config.dim // config.num_heads,
        in_channels=config.in_dim,
        out_channels=config.out_dim,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
    )
    theirs.load_lora_adapter(str(file), prefix="transformer", adapter_name="x", use_safetensors=True)
    found = {name: module for name, module in theirs.named_modules() if hasattr(module, "lora_A")}
    assert len(found) == len(lora.adapters["video_dit"])
    for path, adapter in lora.adapters["video_dit"].items():
        layer = found[to_diffusers(path)]
        assert torch.equal(layer.lora_B["x"].weight, adapter.up)
        assert layer.scaling["x"] == adapter.scale


def test_a_scale_without_a_name_in_the_layout_is_in_the_tensors(lora: LoraFile, tmp_path: Path) -> None:
    for layout, name, key in (
        ("diffsynth", "audio", "{path}.lora_{half}.default.weight"),
        ("videox-fun", "checkpoint-200-transformer_audio", "base_model.model.{path}.lora_{half}.weight"),
    ):
        tensors = load_file(EXPORTS[layout](lora, tmp_path / layout) / f"{name}.safetensors")
        for path, adapter in lora.adapters["audio_dit"].items():
            up, down = (tensors[key.format(path=path, half=half)] for half in "BA")
            assert (up @ down - adapter.delta()).abs().max() < 1e-6


def test_low_resource_is_one_pt_file(lora: LoraFile, tmp_path: Path) -> None:
    content = torch.load(export_low_resource(lora, tmp_path / "x.pt"), weights_only=True)
    assert (content["rank"], content["alpha"]) == (4, 0.1)
    assert "audio_dit.blocks.0.self_attn.q.lora_A" in content["lora_state_dict"]
    with pytest.raises(InputError, match=r"should end in \.pt"):
        export_low_resource(lora, tmp_path / "folder")


def test_one_lora_is_the_same_file_byte_for_byte(tmp_path: Path) -> None:
    lora = tiny_lora(tiny_components(), only=["audio_dit"], about='ö "\n\x1f\u2028\U0001f3b5', b="2", c="3", d="4")
    written = {save_lora(lora, tmp_path / f"{number}.safetensors").read_bytes() for number in range(6)}
    assert len(written) == 1
    assert read_lora(tmp_path / "0.safetensors").equals(lora)
