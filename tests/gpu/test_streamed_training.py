"""Training with streamed base weights: gradients are those of resident ones, on the device."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from phonofilm.runtime.backends import Backend
from phonofilm.runtime.backward import TrainingStreamer
from tests.gpu.small_models import apart, experts, step

if TYPE_CHECKING:
    from phonofilm.training.task.joint_task import Batch, JointModel


@pytest.fixture(autouse=True)
def training() -> None:
    """Training's own packages."""
    pytest.importorskip("pydantic", reason="the package pydantic is not installed: pip install phonofilm[train]")
    pytest.importorskip("peft", reason="the package peft is not installed: pip install phonofilm[train]")


def adapted_model() -> JointModel:
    from phonofilm.training.config.finetune_config import AdapterConfig, LoraConfig
    from phonofilm.training.task.adapters import add_adapters
    from phonofilm.training.task.joint_task import JointModel

    high, low = experts()
    model = JointModel(high, low, None)
    adapter = AdapterConfig(rank=2, alpha=2.0, ffn=True)
    add_adapters(
        model, LoraConfig(high=adapter, low=adapter, audio=adapter, bridge=AdapterConfig(rank=2, alpha=2.0)), seed=3
    )
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the layers behind it
            torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    model.gradient_checkpointing = True
    return model


def clip(device: torch.device) -> Batch:
    from phonofilm.training.task.joint_task import Batch
    from phonofilm.training.task.latent_dataset import EncodedPrompts
    from phonofilm.training.task.objective import Sample

    inputs, conditionings = step(device)
    video, text = inputs.video_latents[:, :16], conditionings[0].text
    sample = Sample(video, video.roll(1, 1), inputs.audio_latents, torch.tensor([True]), video[0])
    return Batch(sample, lambda keep: EncodedPrompts(text, torch.tensor([text.shape[1]])), 24.0)


def gradients(model: JointModel, batch: Batch, expert: str, turn: int) -> dict[str, Tensor]:
    from phonofilm.training.config.training_config import ObjectiveConfig
    from phonofilm.training.task.interface import BatchIndex
    from phonofilm.training.task.joint_task import joint_loss

    model.zero_grad(set_to_none=True)
    index = BatchIndex(turn, 0, 1, 0, 1, 0)
    joint_loss(model, ObjectiveConfig(), batch, expert, index).total.backward()  # type: ignore[arg-type]
    return {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("slots", "stay"), [(2, 0), (3, 1)])
def test_forward_and_backward_through_the_slots_give_the_resident_gradients(
    device: torch.device, backend: Backend, slots: int, stay: int
) -> None:
    plain = adapted_model()
    streamed = copy.deepcopy(plain)
    plain.to(device)
    assert streamed.low is not None
    streamer = TrainingStreamer([streamed.high, streamed.low], backend, slots=slots, resident=stay)
    batch = clip(device)
    for turn, expert in enumerate(("high", "low", "low", "high")):
        expected = gradients(plain, batch, expert, turn)
        streamer.begin()
        ours = gradients(streamed, batch, expert, turn)
        assert ours.keys() == expected.keys()
        assert ours
        for name, gradient in ours.items():
            # A card's attention adds up the gradient of its queries in any order.
            assert apart([gradient], [expected[name]]) < (1e-4 if device.type == "cuda" else 1e-12), name
    streamer.close()
    assert {p.device.type for name, p in streamed.named_parameters() if "lora" not in name} == {"cpu"}


def test_mixed_precision_through_the_slots_gives_the_resident_loss(device: torch.device, backend: Backend) -> None:
    if device.type == "cpu":
        pytest.skip("mixed precision by autocast is for a card")
    from phonofilm.training.config.training_config import ObjectiveConfig
    from phonofilm.training.task.interface import BatchIndex
    from phonofilm.training.task.joint_task import joint_loss

    plain = adapted_model()
    streamed = copy.deepcopy(plain)
    plain.to(device)
    assert streamed.low is not None
    streamer = TrainingStreamer([streamed.high, streamed.low], backend, slots=2)
    batch, losses = clip(device), []
    for model in (plain, streamed):
        with torch.autocast("cuda", torch.bfloat16):
            loss = joint_loss(model, ObjectiveConfig(), batch, "high", BatchIndex(0, 0, 1, 0, 1, 0)).total
        loss.backward()
        losses.append(float(loss))
    streamer.close()
    assert losses[0] == losses[1]
