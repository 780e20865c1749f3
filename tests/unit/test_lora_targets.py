"""Targets name layers exactly: the counts of the released sizes, and no name that merely contains a target."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phonofilm.errors import InputError
from phonofilm.lora.target_layers import ALL_TARGETS, ATTENTION_TARGETS, adapted_layers
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.video import WanModel


@pytest.fixture(scope="module")
def released() -> dict[str, nn.Module | None]:
    """The released sizes, without weights."""
    shared = {"text_dim": 4096, "freq_dim": 256, "eps": 1e-6}
    with torch.device("meta"):
        video = WanModel(
            dim=5120, in_dim=36, ffn_dim=13824, out_dim=16, patch_size=(1, 2, 2), num_heads=40, num_layers=40, **shared
        )
        audio = WanAudioModel(
            dim=1536, in_dim=128, ffn_dim=8960, out_dim=128, patch_size=(1,), num_heads=12, num_layers=30, **shared
        )
        bridge = DualTowerConditionalBridge(
            visual_layers=40,
            audio_layers=30,
            visual_hidden_dim=5120,
            audio_hidden_dim=1536,
            interaction_strategy="full",
        )
    return {"video_dit": video, "video_dit_2": video, "audio_dit": audio, "dual_tower_bridge": bridge}


def test_released_sizes_give_the_expected_counts(released: dict[str, nn.Module | None]) -> None:
    counts = {name: len(paths) for name, paths in adapted_layers(released, ATTENTION_TARGETS).items()}
    assert counts == {"video_dit": 320, "video_dit_2": 320, "audio_dit": 240, "dual_tower_bridge": 240}
    with_ffn = {name: len(paths) for name, paths in adapted_layers(released, ALL_TARGETS).items()}
    assert with_ffn == {"video_dit": 400, "video_dit_2": 400, "audio_dit": 300, "dual_tower_bridge": 240}


def test_o_does_not_match_blocks(released: dict[str, nn.Module | None]) -> None:
    paths = adapted_layers({"video_dit": released["video_dit"]}, ["o"])["video_dit"]
    assert len(paths) == 80
    assert {path.rpartition(".")[2] for path in paths} == {"o"}


def test_a_target_that_names_nothing_is_an_error(released: dict[str, nn.Module | None]) -> None:
    for targets, message in ((["q", "to_q"], "'to_q' names no linear layer"), (["tt.q"], "'tt.q'"), ([], "no targets")):
        with pytest.raises(InputError, match=message):
            adapted_layers(released, targets)


def test_a_component_that_is_not_there_is_left_out(released: dict[str, nn.Module | None]) -> None:
    assert list(adapted_layers({**released, "video_dit_2": None}, ["ffn.0"])) == [
        "video_dit",
        "audio_dit",
        "dual_tower_bridge",
    ]
