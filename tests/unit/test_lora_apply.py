"""Merging a LoRA: the result is base plus the scaled low-rank path, per part of the model, and comes out to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.unit.lora_helpers import tiny_components, tiny_lora
from torch import nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.apply import apply_lora
from phonofilm.lora.strength import parse_lora_option, strength_of

Model = dict[str, nn.Module]


@pytest.fixture
def model() -> Model:
    return tiny_components()


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": t.clone() for n, module in model.items() for k, t in module.state_dict().items()}


def changed(model: Model, before: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, tensor in weights(model).items() if not torch.equal(tensor, before[key])}


def test_merged_output_is_base_plus_the_scaled_low_rank_path(model: Model) -> None:
    lora = tiny_lora(model, rank=4, alpha=0.02)
    expected = {}
    for component, path, adapter in lora.items():
        layer = model[component].get_submodule(path)
        x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(1)) / layer.in_features
        low = F.linear(F.linear(x, adapter.down), adapter.up)
        expected[component, path] = (x, layer(x) + 0.7 * adapter.alpha / adapter.rank * low)
    applied = apply_lora(model, lora, 0.7)
    assert applied.count == len(expected)
    for (component, path), (x, y) in expected.items():
        assert (model[component].get_submodule(path)(x) - y).abs().max() < 1e-6


def test_removing_puts_back_every_bit_also_in_half_precision(model: Model) -> None:
    model["video_dit"].to(torch.bfloat16)
    before = weights(model)
    first = apply_lora(model, tiny_lora(model, seed=1))
    between = weights(model)
    second = apply_lora(model, tiny_lora(model, seed=2), {"audio": 0.0})
    assert changed(model, before)
    assert model["video_dit"].get_submodule("blocks.0.ffn.0").weight.dtype is torch.bfloat16
    with pytest.raises(InputError, match="another LoRA is merged on top"):
        first.remove()
    second.remove()
    assert changed(model, between) == set()
    first.remove()
    assert changed(model, before) == set()


def test_strength_per_part_and_per_direction_of_the_bridge(model: Model) -> None:
    before = weights(model)
    lora = tiny_lora(model, targets=("q",))

    def touched(strength: dict[str, float]) -> set[str]:
        applied = apply_lora(model, lora, {**dict.fromkeys(("video", "audio", "bridge"), 0.0), **strength})
        found = {".".join(key.split(".")[:2]) for key in changed(model, before)}
        applied.remove()
        return found

    assert touched({}) == set()
    assert touched({"high": 1.0}) == {"video_dit.blocks"}
    assert touched({"low": 1.0, "audio": 0.5}) == {"video_dit_2.blocks", "audio_dit.blocks"}
    assert touched({"a2v": 1.0}) == {"dual_tower_bridge.audio_to_video_conditioners"}
    assert touched({"v2a": 1.0}) == {"dual_tower_bridge.video_to_audio_conditioners"}
    assert strength_of({"bridge": 0.5, "a2v": 2.0}, "dual_tower_bridge", "audio_to_video_conditioners.0.inner.q") == 2.0
    assert strength_of({"audio": 0.5}, "video_dit", "blocks.0.ffn.0") == 1.0
    with pytest.raises(InputError, match="'sound'"):
        apply_lora(model, lora, {"sound": 1.0})


def test_what_does_not_fit_changes_nothing(model: Model) -> None:
    before = weights(model)
    lora = tiny_lora(model)
    with pytest.raises(CheckpointError, match=r"adapters do not fit this model: audio_dit\S+ \(no such layer\)"):
        apply_lora({**model, "audio_dit": None}, lora)
    with pytest.raises(CheckpointError, match="made for 48x48"):
        apply_lora({**model, "video_dit": model["audio_dit"]}, lora)
    layer = model["dual_tower_bridge"].get_submodule("audio_to_video_conditioners.0.inner.q")
    kept, layer.weight = layer.weight, nn.Parameter(layer.weight.to("meta"))
    with pytest.raises(InputError, match="before weights are offloaded or quantised"):
        apply_lora(model, lora)
    layer.weight = kept
    assert changed(model, before) == set()


def test_a_lora_is_removed_once(model: Model) -> None:
    applied = apply_lora(model, tiny_lora(model, targets=("q",)))
    applied.remove()
    assert applied.count == 0
    before = weights(model)
    applied.remove()
    assert changed(model, before) == set()


@pytest.mark.parametrize(
    ("text", "file", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("d:x/a.pt:video=1,audio=0.5,bridge=0", "d:x/a.pt", {"video": 1.0, "audio": 0.5, "bridge": 0.0}),
    ],
)
def test_the_option_names_a_file_and_how_strongly_it_works(text: str, file: str, strength: object) -> None:
    assert parse_lora_option(text) == (Path(file), strength)


def test_a_strength_that_is_none_is_refused() -> None:
    for text in ("a.pt:loud", "a.pt:sound=1", "a.pt:audio=loud", "a.pt:audio=1,2"):
        with pytest.raises(InputError):
            parse_lora_option(text)
