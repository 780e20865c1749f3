"""LoRA files that other tools' own readers take: diffusers' converter of kohya's names, the original's injector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_musubi_wan_lora_to_diffusers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.unit.lora_helpers import tiny_components, tiny_lora
from torch import nn

from phonofilm.errors import CheckpointError
from phonofilm.lora.adapter import Adapter, Layout, LoraFile
from phonofilm.lora.exporting import export_kohya, export_low_resource
from phonofilm.lora.reading import read_for_layers
from phonofilm.lora.tensor_names import to_diffusers
from phonofilm.lora.zero_adapters import FILLERS_KEY

WIDTH, HIDDEN = 5120, 13824  # of the released video towers
ATTENTION = [f"{attention}.{layer}" for attention in ("self_attn", "cross_attn") for layer in "qkvo"]


def attention_lora(blocks: tuple[int, ...] = (0, 1)) -> LoraFile:
    generator = torch.Generator().manual_seed(3)
    adapters = {
        f"blocks.{block}.{layer}": Adapter(
            torch.randn(2, WIDTH, generator=generator), torch.randn(WIDTH, 2, generator=generator), 4.0
        )
        for block in blocks
        for layer in ATTENTION
    }
    return LoraFile(Layout.PHONOFILM, {"video_dit": adapters}, {})


@pytest.mark.parametrize("blocks", [(0, 1), (1,)], ids=["every block", "the second block alone"])
def test_diffusers_converts_a_kohya_file_of_attention_alone(tmp_path: Path, blocks: tuple[int, ...]) -> None:
    lora = attention_lora(blocks)
    (file,) = export_kohya(lora, tmp_path / "kohya").glob("*.safetensors")
    converted = _convert_musubi_wan_lora_to_diffusers(load_file(file))
    for path, adapter in lora.adapters["video_dit"].items():
        name = f"transformer.{to_diffusers(path)}"
        update = converted[f"{name}.lora_B.weight"][:4] @ converted[f"{name}.lora_A.weight"]
        torch.testing.assert_close(update, adapter.alpha / 2 * (adapter.up[:4] @ adapter.down))
    assert len(converted) == 2 * 2 * 10  # two blocks, ten layers, two halves
    assert converted["transformer.blocks.1.ffn.net.0.proj.lora_B.weight"].shape == (HIDDEN, 1)
    assert converted["transformer.blocks.1.ffn.net.2.lora_A.weight"].shape == (1, HIDDEN)
    assert not converted["transformer.blocks.0.ffn.net.2.lora_B.weight"].any()


def test_layers_that_were_added_for_others_are_left_out_when_the_file_is_read(tmp_path: Path) -> None:
    lora = attention_lora()
    folder = export_kohya(lora, tmp_path / "kohya")
    layers = {"video_dit": dict.fromkeys(lora.adapters["video_dit"], (WIDTH, WIDTH))}
    assert read_for_layers(folder, layers).adapters["video_dit"].keys() == lora.adapters["video_dit"].keys()


def test_a_filler_that_has_an_effect_is_refused(tmp_path: Path) -> None:
    (file,) = export_kohya(attention_lora((0,)), tmp_path / "kohya").glob("*.safetensors")
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert "lora_unet_blocks_0_ffn_0" in json.loads(header[FILLERS_KEY])
    tensors = load_file(file)
    tensors["lora_unet_blocks_0_ffn_0.lora_up.weight"] += 1
    save_file(tensors, file, header)
    with pytest.raises(CheckpointError, match="lora_unet_blocks_0_ffn_0 a filler, but it is not zero"):
        read_for_layers(file, {"video_dit": {}})


def test_the_originals_injector_finds_every_adapted_layer_and_no_whole_part(tmp_path: Path) -> None:
    model: dict[str, nn.Module] = tiny_components()
    lora = tiny_lora(model, rank=4, alpha=4.0)
    content = torch.load(export_low_resource(lora, tmp_path / "x.pt"), weights_only=True)
    targets = content["target_modules"]
    for component, path, _ in lora.items():
        # Its rule, in mova/engine/trainer/low_resource/lora_layers.py: the last part of the name, or its end.
        name = f"{component}.{path}"
        assert any(name.split(".")[-1] == target or name.endswith(f".{target}") for target in targets)
    assert not set(targets) & set(lora.adapters)
