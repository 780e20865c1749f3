"""LoRAs on the pipeline: diffusers' names, what they change, exact removal, and weights that someone else holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers.hooks import apply_group_offloading
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.lora_helpers import tiny_lora

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.lora.writing import save_lora
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs
from phonofilm.pipeline.denoising import ExpertName
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.runtime.backends import HostBackend
from phonofilm.runtime.layer_streaming import LayerStreamer


@pytest.fixture
def pipe() -> MovaPipeline:
    return tiny_nano_pipeline(size=32, num_frames=5)


def lora_for(pipe: MovaPipeline, seed: int = 0, alpha: float = 0.5, **options: object) -> LoraFile:
    parts = {name: getattr(pipe, name) for name in LORA_COMPONENTS}
    return tiny_lora(parts, rank=4, alpha=alpha, seed=seed, **options)  # type: ignore[arg-type]


def state(pipe: MovaPipeline) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": t.clone() for n in LORA_COMPONENTS for k, t in getattr(pipe, n).state_dict().items()}


def same(pipe: MovaPipeline, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, before[key]) for key, tensor in state(pipe).items())


def latents(pipe: MovaPipeline) -> list[torch.Tensor]:
    out = pipe("a ball", generator=torch.Generator().manual_seed(1), output_type="latent")
    return [out.frames, out.audio]


def test_a_lora_changes_the_clip_and_unloading_makes_the_same_clip_again(pipe: MovaPipeline, tmp_path: Path) -> None:
    before, plain = state(pipe), latents(pipe)
    file = save_lora(lora_for(pipe), tmp_path / "x.safetensors")
    assert pipe.load_lora_weights(file, weight=0.5) == "default_0"
    assert pipe.get_active_adapters() == ["default_0"]
    assert not any(torch.equal(a, b) for a, b in zip(latents(pipe), plain, strict=True))
    pipe.unload_lora_weights()
    assert pipe.get_active_adapters() == []
    assert same(pipe, before)
    assert all(torch.equal(a, b) for a, b in zip(latents(pipe), plain, strict=True))


def test_set_adapters_chooses_among_loaded_ones_and_weighs_them(pipe: MovaPipeline) -> None:
    before = state(pipe)
    pipe.load_lora_weights(lora_for(pipe, 1), "one", weight={"audio": 0.0})
    one = state(pipe)
    pipe.load_lora_weights(lora_for(pipe, 2, only=["audio_dit"]), "two")
    assert pipe.get_active_adapters() == ["one", "two"]
    assert pipe.get_list_adapters()["audio_dit"] == ["one", "two"]
    assert pipe.get_list_adapters()["video_dit"] == ["one"]
    both = state(pipe)
    pipe.set_adapters(["one"], {"audio": 0.0})
    assert same(pipe, one)
    pipe.set_adapters([])
    assert same(pipe, before)
    pipe.set_adapters(["one", "two"], [{"audio": 0.0}, 1.0])
    assert same(pipe, both)
    pipe.delete_adapters("two")
    assert same(pipe, one)
    assert pipe.get_list_adapters()["audio_dit"] == ["one"]


def test_what_makes_no_sense_is_refused_and_changes_nothing(pipe: MovaPipeline, tmp_path: Path) -> None:
    pipe.load_lora_weights(lora_for(pipe), "one")
    before = state(pipe)
    other = tiny_lora({"audio_dit": tiny_nano_pipeline(seed=1).video_dit}, only=["audio_dit"])
    for action, error, message in (
        (lambda: pipe.load_lora_weights(lora_for(pipe), "one"), InputError, "loaded already"),
        (lambda: pipe.load_lora_weights(lora_for(pipe), weight={"sound": 1}), InputError, "'sound'"),
        (lambda: pipe.load_lora_weights(tmp_path / "none.safetensors"), InputError, "no LoRA"),
        (lambda: pipe.load_lora_weights(other), CheckpointError, "do not fit"),
        (lambda: pipe.set_adapters("two"), InputError, "no LoRA named 'two' is loaded; loaded are one"),
        (lambda: pipe.set_adapters(["one"], [1.0, 2.0]), InputError, "2 weights were given for 1 LoRAs"),
        (lambda: pipe.delete_adapters("two"), InputError, "no LoRA named 'two'"),
    ):
        with pytest.raises(error, match=message):
            action()
        assert same(pipe, before)
        assert pipe.get_active_adapters() == ["one"]


def test_the_direction_from_picture_to_sound_changes_the_first_steps_sound_alone(pipe: MovaPipeline) -> None:
    pipe.defaults = type(pipe.defaults)(**{**vars(pipe.defaults), "num_inference_steps": 1})
    plain = latents(pipe)
    lora = lora_for(pipe, only=["audio_dit"])
    pipe.load_lora_weights(lora, weight={"audio": 1.0})
    assert not torch.equal(latents(pipe)[1], plain[1])
    pipe.unload_lora_weights()
    pipe.load_lora_weights(lora_for(pipe, only=["dual_tower_bridge"]), weight={"a2v": 0.0})
    changed = latents(pipe)
    assert not torch.equal(changed[1], plain[1])


def test_giving_up_the_high_noise_expert_gives_up_its_copies_too(pipe: MovaPipeline) -> None:
    pipe.load_lora_weights(lora_for(pipe))
    pipe("a ball", remove_video_dit=True, output_type="latent", generator=torch.Generator().manual_seed(0))
    assert pipe.video_dit is None
    assert not any(name.startswith("video_dit.") for name in pipe._merged.layers)
    pipe.unload_lora_weights()
    assert pipe._merged.layers == ()


def test_group_offloading_makes_the_clip_that_is_made_without(pipe: MovaPipeline) -> None:
    plain = latents(pipe)
    pipe.load_lora_weights(lora_for(pipe), "one")
    expected = latents(pipe)
    pipe.unload_lora_weights()
    for name in LORA_COMPONENTS:
        apply_group_offloading(
            getattr(pipe, name),
            onload_device=torch.device("cpu"),
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
        )
    pipe.load_lora_weights(lora_for(pipe), "one")
    assert all(torch.equal(a, b) for a, b in zip(latents(pipe), expected, strict=True))
    pipe.unload_lora_weights()
    assert all(torch.equal(a, b) for a, b in zip(latents(pipe), plain, strict=True))


def test_weights_that_were_offloaded_to_disk_are_refused(pipe: MovaPipeline, tmp_path: Path) -> None:
    apply_group_offloading(
        pipe.audio_dit,
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        offload_to_disk_path=str(tmp_path / "layers"),
    )
    with pytest.raises(InputError, match="load LoRAs before offloading"):
        pipe.load_lora_weights(lora_for(pipe))
    assert pipe.get_active_adapters() == []


@dataclass
class Streamed:
    """The simplest engine that streams: every forward through two slots in host memory."""

    streamer: LayerStreamer

    def __call__(
        self, expert: ExpertName, inputs: StepInputs, conditionings: Sequence[Conditioning], following: ExpertName
    ) -> list[JointOutput]:
        numbers = {"high": 0, "low": 1}
        return self.streamer.forward_many(inputs, conditionings, expert=numbers[expert], following=numbers[following])

    def release(self, expert: ExpertName) -> None:
        raise AssertionError

    def weights_changed(self) -> None:
        self.streamer.weights_changed()


@pytest.mark.parametrize("resident", [0, 1])
def test_loras_reach_weights_that_are_streamed_and_leave_them_again(pipe: MovaPipeline, resident: int) -> None:
    plain = latents(pipe)
    pipe.load_lora_weights(lora_for(pipe, 1), "one")
    one = latents(pipe)
    pipe.set_adapters([])
    pipe.load_lora_weights(lora_for(pipe, 2), "two")
    two = latents(pipe)
    experts = [JointDenoiser(e, pipe.audio_dit, pipe.dual_tower_bridge) for e in (pipe.video_dit, pipe.video_dit_2)]
    pipe.engine = Streamed(LayerStreamer(experts, HostBackend(), slots=2, resident=resident))
    for names, expected in (("two", two), ("one", one), ([], plain), ("two", two)):
        pipe.set_adapters(names)
        assert all(torch.equal(a, b) for a, b in zip(latents(pipe), expected, strict=True))
    pipe.unload_lora_weights()
    assert all(torch.equal(a, b) for a, b in zip(latents(pipe), plain, strict=True))
