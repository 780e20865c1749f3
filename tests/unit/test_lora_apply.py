"""Merging LoRAs: the result is base plus the scaled low-rank paths, per part of the model, and comes out to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.unit.lora_helpers import tiny_components, tiny_lora
from torch import nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.generation.loras import LoraUse
from phonofilm.lora.apply import MergedLoras, Use
from phonofilm.lora.strength import LoraChoice, Strength, parse_lora_option, strength_of, tell_strength

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
    merged = MergedLoras()
    merged.set(model, [Use(lora, 0.7)])
    assert len(merged.layers) == len(expected)
    for (component, path), (x, y) in expected.items():
        assert (model[component].get_submodule(path)(x) - y).abs().max() < 1e-6


@pytest.mark.parametrize("in_place", [False, True])
def test_loras_come_out_in_any_order_to_the_last_bit_also_in_half_precision(model: Model, in_place: bool) -> None:
    model["video_dit"].to(torch.bfloat16)
    before = weights(model)
    first, second = Use(tiny_lora(model, seed=1)), Use(tiny_lora(model, seed=2), {"audio": 0.0})
    merged = MergedLoras()
    merged.set(model, [second], in_place=in_place)
    second_alone = weights(model)
    merged.set(model, [first, second], in_place=in_place)
    assert changed(model, second_alone)
    assert model["video_dit"].get_submodule("blocks.0.ffn.0").weight.dtype is torch.bfloat16
    merged.set(model, [second], in_place=in_place)
    assert changed(model, second_alone) == set()
    merged.set(model, [], in_place=in_place)
    assert changed(model, before) == set()
    assert merged.layers == ()


def test_memory_that_someone_else_holds_is_written_to_and_not_replaced(model: Model) -> None:
    layer = model["audio_dit"].get_submodule("blocks.0.self_attn.q")
    held = layer.weight.data
    before = held.clone()
    merged, use = MergedLoras(), Use(tiny_lora(model, only=["audio_dit"]))
    merged.set(model, [use], in_place=True)
    assert layer.weight.data.data_ptr() == held.data_ptr()
    assert not torch.equal(held, before)
    merged.set(model, [], in_place=True)
    assert torch.equal(held, before)


def test_without_a_holder_the_weights_from_before_are_kept_as_they_are_and_not_copied(model: Model) -> None:
    layer = model["audio_dit"].get_submodule("blocks.0.self_attn.q")
    own = layer.weight.data.data_ptr()
    merged, use = MergedLoras(), Use(tiny_lora(model, only=["audio_dit"]))
    merged.set(model, [use])
    assert layer.weight.data.data_ptr() != own
    merged.set(model, [])
    assert layer.weight.data.data_ptr() == own


def test_strength_per_part_and_per_direction_of_the_bridge(model: Model) -> None:
    before = weights(model)
    lora = tiny_lora(model, targets=("q",))

    def touched(strength: dict[str, float]) -> set[str]:
        merged = MergedLoras()
        merged.set(model, [Use(lora, {**dict.fromkeys(("video", "audio", "bridge"), 0.0), **strength})])
        found = {".".join(key.split(".")[:2]) for key in changed(model, before)}
        merged.set(model, [])
        return found

    assert touched({}) == set()
    assert touched({"high": 1.0}) == {"video_dit.blocks"}
    assert touched({"low": 1.0, "audio": 0.5}) == {"video_dit_2.blocks", "audio_dit.blocks"}
    assert touched({"a2v": 1.0}) == {"dual_tower_bridge.audio_to_video_conditioners"}
    assert touched({"v2a": 1.0}) == {"dual_tower_bridge.video_to_audio_conditioners"}
    assert strength_of({"bridge": 0.5, "a2v": 2.0}, "dual_tower_bridge", "audio_to_video_conditioners.0.inner.q") == 2.0
    assert strength_of({"audio": 0.5}, "video_dit", "blocks.0.ffn.0") == 1.0
    for strength, message in (({"sound": 1.0}, "'sound'"), (float("nan"), "not a finite number")):
        with pytest.raises(InputError, match=message):
            MergedLoras().set(model, [Use(lora, strength)])


def test_what_does_not_fit_changes_nothing(model: Model) -> None:
    before = weights(model)
    lora, merged = tiny_lora(model), MergedLoras()
    with pytest.raises(CheckpointError, match=r"adapters do not fit this model: audio_dit\S+ \(no such layer\)"):
        merged.set({**model, "audio_dit": None}, [Use(lora)])
    with pytest.raises(CheckpointError, match="made for 48x48"):
        merged.set({**model, "video_dit": model["audio_dit"]}, [Use(lora)])
    layer = model["dual_tower_bridge"].get_submodule("audio_to_video_conditioners.0.inner.q")
    kept = layer.weight
    for unfit in (kept.to("meta"), kept.detach().to(torch.float8_e4m3fn)):
        layer.weight = nn.Parameter(unfit, requires_grad=False)
        with pytest.raises(InputError, match="before weights are offloaded to disk or quantised"):
            merged.set(model, [Use(lora)])
    layer.weight = kept
    bridge = model["dual_tower_bridge"].get_submodule("audio_to_video_conditioners.0.inner")
    bridge.q, kept_layer = nn.Identity(), bridge.q
    with pytest.raises(CheckpointError, match="a Identity, where a linear layer is expected"):
        merged.set(model, [Use(lora)])
    bridge.q = kept_layer
    assert changed(model, before) == set()


def test_a_component_that_is_given_up_takes_its_copies_along(model: Model) -> None:
    merged = MergedLoras()
    merged.set(model, [Use(tiny_lora(model))])
    merged.forget("video_dit")
    assert {name.partition(".")[0] for name in merged.layers} == {"video_dit_2", "audio_dit", "dual_tower_bridge"}
    merged.set({**model, "video_dit": None}, [])
    assert merged.layers == ()


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("a.safetensors", LoraChoice(Path("a.safetensors"))),
        ("a.safetensors:0.8", LoraChoice(Path("a.safetensors"), 0.8)),
        (
            "d:x/a.pt:video=1,audio=0.5,bridge=0",
            LoraChoice(Path("d:x/a.pt"), {"video": 1.0, "audio": 0.5, "bridge": 0.0}),
        ),
        ("low.safetensors:video=0.7,expert=low", LoraChoice(Path("low.safetensors"), {"video": 0.7}, "low")),
        ("low.safetensors:expert=low", LoraChoice(Path("low.safetensors"), 1.0, "low")),
    ],
)
def test_the_option_names_a_file_and_how_strongly_it_works(text: str, choice: LoraChoice) -> None:
    assert parse_lora_option(text) == choice


@pytest.mark.parametrize("told", ["1.0", "0.1234567890123", "video=1.0,audio=0.5", "video=0.7,expert=low"])
def test_a_strength_is_told_as_it_is_read(told: str) -> None:
    choice = parse_lora_option(f"x.pt:{told}")
    assert tell_strength(choice.strength, choice.expert) == told


def test_a_strength_that_is_none_is_refused() -> None:
    for text in (
        "a.pt:loud",
        "a.pt:sound=1",
        "a.pt:audio=loud",
        "a.pt:audio=1,2",
        "a.pt:expert=loud",
        "a.pt:nan",
        "a.pt:audio=1,audio=2",
    ):
        with pytest.raises(InputError):
            parse_lora_option(text)


@pytest.mark.parametrize(
    ("strength", "idle"),
    [
        (0.5, None),
        (0.0, "lora=voice.pt changes nothing: its strength is 0"),
        ({"audio": 0.0}, "lora=voice.pt changes nothing: its strength is 0"),
        ({"audio": 0.5}, None),
        (
            {"audio": 0.5, "high": 1.0, "a2v": 1.0},
            "the strength of high, a2v changes nothing: voice.pt has no such layers",
        ),
    ],
)
def test_a_strength_that_reaches_no_layer_is_said(model: Model, strength: Strength, idle: str | None) -> None:
    use = LoraUse(Path("voice.pt"), "", tiny_lora(model, only=["audio_dit"]), strength, None)
    assert use.idle == idle


def test_weights_that_were_quantised_since_keep_their_loras(model: Model) -> None:
    merged, use = MergedLoras(), Use(tiny_lora(model, only=["audio_dit"]))
    merged.set(model, [use])
    merged.set(model, [use])
    attention = model["audio_dit"].get_submodule("blocks.0.self_attn")
    attention.q = nn.Identity()
    with pytest.raises(
        InputError, match=r"audio_dit\.blocks\.0\.self_attn\.q is a Identity, whose LoRAs cannot be changed"
    ):
        merged.set(model, [])
