"""Distilling the released model in mode low_resource: bytes on the device, counted at its true sizes on the meta device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.released import CLIP_360P, forward_inputs, released_denoiser
from phonofilm.lora.components import SHORT_NAMES
from phonofilm.lora.target_layers import ALL_TARGETS, ATTENTION_TARGETS, linear_layers
from phonofilm.models.joint import JointDenoiser
from phonofilm.runtime.footprint import Footprint, TextBlocks
from phonofilm.training.config.config_files import read_config
from phonofilm.training.config.finetune_config import AdapterConfig, LoraConfig
from phonofilm.training.dry_run.layer_depth import Depth, truncated
from phonofilm.training.dry_run.streamed_memory import StreamedMemory, differentiated_bytes, streamed_memory
from phonofilm.training.task.adapters import parts_of
from phonofilm.training.task.joint_task import JointModel

GB = 10**9


@pytest.fixture(scope="module")
def memory() -> StreamedMemory:
    denoiser = released_denoiser()
    lora = read_config("distill", ["data.cache=x"]).lora
    assert lora is not None
    footprint = Footprint.of(denoiser, 2, 0, 0, 2, TextBlocks())
    trained = _trained(denoiser, lora)
    return streamed_memory(footprint, trained, CLIP_360P.video_tokens, _of_one_layer(denoiser, lora))


def _trained(denoiser: JointDenoiser, lora: LoraConfig) -> int:
    networks = {"video_dit": denoiser.video, "audio_dit": denoiser.audio, "dual_tower_bridge": denoiser.bridge}
    layers = linear_layers(networks) | {"video_dit_2": linear_layers({"video_dit": denoiser.video})["video_dit"]}
    total = 0
    for part, component in SHORT_NAMES.items():
        adapter: AdapterConfig = getattr(lora, part)
        ends = tuple(f".{target}" for target in (ALL_TARGETS if adapter.ffn else ATTENTION_TARGETS))
        total += sum(adapter.rank * sum(shape) for path, shape in layers[component].items() if path.endswith(ends))
    return total


class Adapted(nn.Module):
    """A frozen linear layer with an adapter: what peft's keeps for the backward pass, which does not run on meta."""

    def __init__(self, base: nn.Module, rank: int) -> None:
        super().__init__()
        assert isinstance(base, nn.Linear)
        self.base = base.requires_grad_(False)
        with torch.device("meta"):
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x) + self.up(self.down(x))
        return result


def _of_one_layer(denoiser: JointDenoiser, lora: LoraConfig) -> int:
    """Two fused layers less one: what surrounds the layers falls out."""
    for tower in (denoiser.video, denoiser.audio):
        tower.blocks = tower.blocks[:2]
    for directions in (denoiser.bridge.audio_to_video_conditioners, denoiser.bridge.video_to_audio_conditioners):
        for name in [name for name in directions if int(name) > 1]:
            del directions[name]
    model = JointModel(denoiser, None, None)
    for part, network in parts_of(model).items():
        adapter: AdapterConfig = getattr(lora, part)
        ends = tuple(f".{target}" for target in (ALL_TARGETS if adapter.ffn else ATTENTION_TARGETS))
        for path in [name for name, _ in network.named_modules() if name.endswith(ends)]:
            network.set_submodule(path, Adapted(network.get_submodule(path), adapter.rank))
    model.to(torch.bfloat16)  # as autocast computes
    inputs = forward_inputs(CLIP_360P)

    def forward() -> Tensor:
        return inputs.forward(model.high)().video

    largest = CLIP_360P.video_tokens * int(denoiser.video.config["ffn_dim"])
    found = []
    for layers in (1, 2):
        with truncated(model, Depth(layers)):
            found.append(differentiated_bytes(forward, largest))
    return found[1] - found[0]


def test_one_80_gb_card_distills_the_released_model(memory: StreamedMemory) -> None:
    assert memory.kept == pytest.approx(17.66 * GB, rel=0.01)
    assert memory.device() < 60 * GB


def test_with_activations_on_the_host_a_smaller_card_does(memory: StreamedMemory) -> None:
    assert memory.device(activation_offload=True) < 40 * GB
