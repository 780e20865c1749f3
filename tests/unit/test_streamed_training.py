"""Training with streamed base weights gives the very gradients of training with resident ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.finetune_helpers import Ground
from tests.unit.training_helpers import tiny_model, write_latents

from phonofilm.errors import InputError
from phonofilm.models.quantized import ROW_TYPES, QuantizedLinear
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.quantizing import quantize_pipeline
from phonofilm.runtime.backends import HostBackend
from phonofilm.runtime.backward import TrainingStreamer
from phonofilm.training.config.config_files import parse_config
from phonofilm.training.config.finetune_config import AdapterConfig, LoraConfig
from phonofilm.training.config.training_config import ObjectiveConfig
from phonofilm.training.task.adapters import add_adapters
from phonofilm.training.task.interface import BatchIndex
from phonofilm.training.task.joint_task import Batch, JointModel, hidden_prompts, joint_loss
from phonofilm.training.task.latent_dataset import LatentDataset
from phonofilm.training.task.weight_placement import ResidentWeights, StreamedWeights

ADAPTER = AdapterConfig(rank=2, alpha=2.0, ffn=True)
LORA = LoraConfig(high=ADAPTER, low=ADAPTER, audio=ADAPTER, bridge=AdapterConfig(rank=2, alpha=2.0))


class ScribblingBackend(HostBackend):
    """Spoils the slot before every copy: whoever still reads the layer that was there gets nonsense."""

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        target.fill_(0xFF)
        super().copy(source, target)


@pytest.fixture
def data(tmp_path: Path) -> LatentDataset:
    return write_latents(tmp_path / "latents")


def adapted_model() -> JointModel:
    model = tiny_model(two_experts=True)
    add_adapters(model, LORA, seed=3)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the layers behind it
            torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    model.gradient_checkpointing = True
    return model


def gradients(model: JointModel, data: LatentDataset, expert: str, step: int) -> dict[str, torch.Tensor]:
    rows = torch.arange(4)
    batch = Batch(
        data.sample(rows, torch.device("cpu")),
        lambda keep: hidden_prompts(data, rows, keep, torch.device("cpu")),
        data.meta.frame_rate,
    )
    model.zero_grad(set_to_none=True)
    loss = joint_loss(model, ObjectiveConfig(), batch, expert, BatchIndex(step, 0, 1, 0, 1, 0))  # type: ignore[arg-type]
    loss.total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("resident", [0, 1])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_gradients_are_bit_identical_whatever_the_slots(data: LatentDataset, slots: int, resident: int) -> None:
    plain, streamed = adapted_model(), adapted_model()
    assert streamed.low is not None
    streamer = TrainingStreamer([streamed.high, streamed.low], ScribblingBackend(), slots=slots, resident=resident)
    for step, expert in enumerate(("high", "low", "low", "high")):
        expected = gradients(plain, data, expert, step)
        streamer.begin()
        assert expected.keys() == gradients(streamed, data, expert, step).keys()
        for name, gradient in gradients(streamed, data, expert, step).items():
            assert torch.equal(gradient, expected[name]), name
    streamer.close()
    with torch.no_grad():
        for ours, theirs in zip(streamed.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_weights_pass_twice_an_update_and_the_next_forward_is_fetched_ahead(data: LatentDataset) -> None:
    model, backend = adapted_model(), HostBackend()
    assert model.low is not None
    streamer = TrainingStreamer([model.high, model.low], backend, slots=2)
    forward = streamer.streamed_bytes[0]
    gradients(model, data, "high", 0)
    # One of the two slots still holds what the backward pass ended with; the next forward's first layer is in the other.
    assert backend.bytes_copied == 2 * forward + forward // 2


def test_an_interrupted_update_leaves_the_next_one_right(data: LatentDataset) -> None:
    plain, streamed = adapted_model(), adapted_model()
    placement = StreamedWeights()
    placement.place(streamed, torch.device("cpu"))
    block = streamed.high.video.blocks[1]
    handle = block.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    placement.activate("high")
    with pytest.raises(RuntimeError, match="out of memory"):
        gradients(streamed, data, "high", 0)
    handle.remove()
    placement.activate("high")
    expected = gradients(plain, data, "high", 0)
    ours = gradients(streamed, data, "high", 0)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_streamed_weights_do_not_train_and_adapters_stay_where_they_are() -> None:
    model = adapted_model()
    trained = {name: p.data_ptr() for name, p in model.named_parameters() if p.requires_grad}
    ResidentWeights().place(model, torch.device("cpu"))
    StreamedWeights().place(model, torch.device("cpu"))
    assert {name: p.data_ptr() for name, p in model.named_parameters() if p.requires_grad} == trained


def test_low_resource_mode_learns_what_the_resident_mode_learns(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    told = {"max_steps": 4, "gradient_checkpointing": True}
    trainers = [ground.trainer(tmp_path / mode, mode=mode, **told) for mode in ("accelerate", "low_resource")]
    resident, streamed = (trainer.snapshot() for trainer in trainers if trainer.run().reason == "finished")
    assert resident.weights.keys() == streamed.weights.keys()
    assert all(torch.equal(streamed.weights[name], weight) for name, weight in resident.weights.items())
    assert any(bool(weight.any()) for name, weight in streamed.weights.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient_checkpointing": False}, "needs gradient_checkpointing"),
        ({"lora": None, "full": {"audio": {}}}, "use lora"),
        ({"quantize": "fp8", "mode": "fsdp"}, "cannot be cut up"),
        ({"quantize": "fp8", "mode": "accelerate", "lora": None, "full": {"audio": {}}}, "quantize with full"),
    ],
)
def test_low_resource_refuses_what_streaming_cannot_do(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    told = {"mode": "low_resource", "data": {"cache": str(tmp_path)}, "lora": {"audio": {}}, "max_steps": 1, **changes}
    with pytest.raises(InputError, match=message):
        parse_config({key: value for key, value in told.items() if value is not None}, "test")


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_quantised_base_weights_learn_the_same_streamed_and_resident(tmp_path: Path, kind: str) -> None:
    ground = Ground(tmp_path)
    told = {"max_steps": 4, "gradient_checkpointing": True}
    modes = ("accelerate", "low_resource")
    trainers = [ground.trainer(tmp_path / mode, mode=mode, quantize=kind, **told) for mode in modes]
    stored = {m.weight.dtype for m in trainers[0].task.model.modules() if isinstance(m, QuantizedLinear)}
    resident, streamed = (trainer.snapshot() for trainer in trainers if trainer.run().reason == "finished")
    assert all(torch.equal(streamed.weights[name], weight) for name, weight in resident.weights.items())
    assert any(bool(weight.any()) for name, weight in resident.weights.items() if "lora_B" in name)
    assert all(weight.dtype == torch.float32 for weight in resident.weights.values())
    assert stored == {ROW_TYPES[kind][0]}


def test_adapters_learn_on_a_checkpoint_that_was_quantised_before(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    pipeline = MovaPipeline.from_pretrained(ground.checkpoint)
    quantize_pipeline(pipeline, "int8")
    pipeline.save_pretrained(tmp_path / "quantised")
    told = {"max_steps": 4, "mode": "low_resource", "gradient_checkpointing": True}
    before = ground.trainer(tmp_path / "before", model=str(tmp_path / "quantised"), **told)
    now = ground.trainer(tmp_path / "now", quantize="int8", **told)
    ours, theirs = (trainer.snapshot() for trainer in (before, now) if trainer.run().reason == "finished")
    assert all(torch.equal(ours.weights[name], weight) for name, weight in theirs.weights.items())
    with pytest.raises(InputError, match="int8 already; leave quantize out"):
        ground.trainer(tmp_path / "twice", model=str(tmp_path / "quantised"), quantize="int8", **told)
