"""Adapters in training under autocast: no float32 copy of what they read, and the same numbers, forwards and backwards."""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from tests.conftest import Golden
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.video import WanModel
from phonofilm.training.config.finetune_config import AdapterConfig, LoraConfig
from phonofilm.training.task.adapters import add_adapters
from phonofilm.training.task.joint_task import JointModel


class FloatCopies(TorchDispatchMode):
    """Counts the copies of bfloat16 tensors in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            self.count += args[0].dtype == torch.bfloat16 and result.dtype == torch.float32
        return result


@pytest.fixture
def model(basic: Golden) -> JointModel:
    """A bfloat16 model with float32 adapters that change something."""
    networks = (
        WanModel.from_pretrained(basic.checkpoint / "video_dit", torch_dtype=torch.bfloat16),
        WanAudioModel.from_pretrained(basic.checkpoint / "audio_dit", torch_dtype=torch.bfloat16),
        DualTowerConditionalBridge.from_pretrained(basic.checkpoint / "dual_tower_bridge", torch_dtype=torch.bfloat16),
    )
    made = JointModel(JointDenoiser(*networks), None, None)
    adapter = AdapterConfig(rank=4, alpha=4, ffn=True)
    add_adapters(made, LoraConfig(high=adapter, audio=adapter, bridge=AdapterConfig(rank=4, alpha=4)), seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05, generator=generator)
    return made


def run(model: JointModel, golden: Golden, autocast: bool) -> tuple[list[Tensor], int]:
    """Both velocities and the adapters' gradients; and how many float32 copies were made on the way forward."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), FloatCopies() as copies:
        out = model.high(
            golden["video_dit/x"].bfloat16(),
            golden["audio_dit/x"].bfloat16(),
            golden["video_dit/t"],
            golden["audio_dit/t"],
            golden["video_dit/context"].bfloat16(),
            golden.meta["frame_rate"],
        )
    (out.video.float().square().sum() + out.audio.float().square().sum()).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient is not None for gradient in gradients)
    return [out.video, out.audio, *(gradient for gradient in gradients if gradient is not None)], copies.count


def test_numbers_are_the_same_to_the_last_bit_and_copies_fewer(model: JointModel, basic: Golden) -> None:
    as_peft_does = copy.deepcopy(model)
    layers = [module for module in as_peft_does.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer._cast_input_dtype = MethodType(LoraLayer._cast_input_dtype, layer)
    ours, copies = run(model, basic, autocast=True)
    expected, copies_of_peft = run(as_peft_does, basic, autocast=True)
    assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))
    assert copies_of_peft - copies == len(layers) > 20


def test_without_autocast_adapters_in_float32_still_read_bfloat16(model: JointModel, basic: Golden) -> None:
    with torch.no_grad():
        out = model.high(
            basic["video_dit/x"].bfloat16(),
            basic["audio_dit/x"].bfloat16(),
            basic["video_dit/t"],
            basic["audio_dit/t"],
            basic["video_dit/context"].bfloat16(),
            basic.meta["frame_rate"],
        )
    assert out.video.isfinite().all()
    assert out.video.dtype == torch.bfloat16
