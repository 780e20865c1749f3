"""Fine-tuning: which layers learn, what is loaded, whose turn it is, exact resume, the LoRA file that comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from tests.unit.finetune_helpers import ALL_PARTS, Ground, state_hash, write_clips

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.reading import read_lora
from phonofilm.models.checksums import write_checksums
from phonofilm.models.health import health
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_component
from phonofilm.training.checkpointing.run_folder import checkpoint_folders, latest_checkpoint
from phonofilm.training.finetune import finetune
from phonofilm.training.task.cached_clips import BucketOrder
from phonofilm.training.task.weight_placement import ResidentWeights


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


def test_twenty_updates_equal_ten_and_ten_more_hash_for_hash(ground: Ground, tmp_path: Path) -> None:
    changes = {"experts": "weighted", "accumulate": 2, "lora": {**ALL_PARTS, "dropout": 0.1}}
    torch.manual_seed(7)
    straight = ground.trainer(tmp_path / "straight", **changes)
    straight.run()
    torch.manual_seed(7)
    first = ground.trainer(tmp_path / "halves", **changes)
    first.run(until=10)
    torch.manual_seed(99)
    second = ground.trainer(tmp_path / "halves", **changes)
    second.resume()
    assert second.run().reason == "finished"
    assert state_hash(second) == state_hash(straight)
    assert state_hash(first) != state_hash(straight)


def test_base_weights_never_change_and_every_adapter_learns(ground: Ground, tmp_path: Path) -> None:
    run = ground.trainer(tmp_path, max_steps=4)
    before = {name: p.detach().clone() for name, p in run.task.model.named_parameters()}
    run.run()
    for name, parameter in run.task.model.named_parameters():
        changed = not torch.equal(parameter.detach(), before[name])
        assert changed == ("lora_" in name), name
        assert parameter.requires_grad == ("lora_" in name), name


def test_the_result_is_a_lora_that_peft_alone_loads_with_the_same_output(ground: Ground, tmp_path: Path) -> None:
    data = {"sets": [{"path": str(ground.clips)}], "cache": str(tmp_path / "cache")}  # its captions get the word
    lora = {"audio": {"rank": 4, "alpha": 8}}
    task = ground.task(max_steps=4, ema_decay=None, trigger_word="zorb", lora=lora, data=data)
    end = finetune(task, tmp_path)
    assert end.result == tmp_path / "lora.safetensors"
    with safe_open(end.result, "pt") as file:
        header = file.metadata()
    assert (header["steps"], header["trigger_word"], header["base_model"]) == ("4", "zorb", str(ground.checkpoint))
    tensors = {key.removeprefix("audio_dit."): value for key, value in load_file(end.result).items()}
    layers = sorted({key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")})
    by_peft = load_component(read_layout(ground.checkpoint), "audio_dit", torch.float32)
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=layers), by_peft)
    loaded = set_peft_model_state_dict(by_peft, tensors)
    assert not loaded.unexpected_keys
    plain = load_component(read_layout(ground.checkpoint), "audio_dit", torch.float32)
    x = torch.randn(1, 9, plain.blocks[0].self_attn.q.in_features, generator=torch.Generator().manual_seed(1))
    outputs = [tower.blocks[1].self_attn(x, plain.rope(9)) for tower in (task.model.high.audio, by_peft, plain)]
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)


def test_the_model_that_trains_holds_neither_autoencoders_nor_a_text_encoder(ground: Ground) -> None:
    model = ground.task().model
    assert model.text is None
    parts = {".".join(name.split(".")[:2]) for name, _ in model.named_parameters()}
    assert parts == {"high.video", "low.video", "high.audio", "high.bridge"}


@pytest.mark.parametrize("experts", ["high", "low", "alternate", "weighted"])
def test_whose_turn_it_is_follows_the_config_and_the_schedulers_table(ground: Ground, experts: str) -> None:
    lora = {**ALL_PARTS, **{other: None for alone, other in (("high", "low"), ("low", "high")) if alone == experts}}
    task = ground.task(experts=experts, lora=lora)
    turns = [task.expert(step) for step in range(400)]
    table = task.objective.timesteps
    assert (table.video_shift, table.boundary_ratio, table.extra_one_step) == (3.0, 0.9, False)
    share = turns.count("high") / 400
    expected = {"high": 1.0, "low": 0.0, "alternate": 0.5, "weighted": 0.25}[experts]
    assert share == pytest.approx(expected, abs=0.06)
    assert turns == [task.expert(step) for step in range(400)]


def test_several_updates_make_a_turn(ground: Ground) -> None:
    task = ground.task(turn_updates=3)
    assert [task.expert(step)[0] for step in range(8)] == list("hhhlllhh")


def test_only_the_active_experts_frozen_weights_are_on_the_device(ground: Ground) -> None:
    task = ground.task()
    placement = ResidentWeights()
    placement.place(task.model, torch.device("meta"))

    def places(expert: str) -> set[str]:
        tower = getattr(task.model, expert).video
        return {p.device.type for p in tower.parameters() if not p.requires_grad}

    assert (places("high"), places("low")) == ({"cpu"}, {"cpu"})
    for active, other in (("high", "low"), ("low", "high"), ("high", "low")):
        placement.activate(active)
        assert (places(active), places(other)) == ({"meta"}, {"cpu"})
    assert {p.device.type for p in task.model.parameters() if p.requires_grad} == {"meta"}
    assert {p.device.type for p in task.model.high.audio.parameters()} == {"meta"}


def test_each_part_has_its_own_rank_alpha_rate_and_layers(ground: Ground) -> None:
    lora = {"low": {"rank": 2, "alpha": 6, "lr": 0.5, "ffn": True}, "bridge": {"rank": 8}}
    task = ground.task(lora=lora)
    found = {told.part: (len(told.layers), told.config.rank) for told in task.adapted}
    assert found == {"low": (2 * (8 + 2), 2), "bridge": (2 * 2 * 4, 8)}
    rates = {name.split(".")[1]: scale for name, scale in task.rate_scales().items()}
    assert rates == {"video": 50.0, "bridge": 1.0}
    assert all(p.dtype == torch.float32 for p in task.model.parameters() if p.requires_grad)


def test_a_low_precision_base_has_float32_adapters_that_see_small_updates(ground: Ground, tmp_path: Path) -> None:
    run = ground.trainer(tmp_path, base_dtype="bfloat16", max_steps=2, lora={"audio": {"rank": 2}})
    dtypes = {("lora_" in name, p.dtype) for name, p in run.task.model.named_parameters()}
    assert (True, torch.float32) in dtypes
    assert (True, torch.bfloat16) not in dtypes
    assert (False, torch.bfloat16) in dtypes


def test_whole_parts_are_trained_and_come_out_as_a_checkpoint(ground: Ground, tmp_path: Path) -> None:
    write_checksums(ground.checkpoint)  # of the base; the result must not take them over
    end = finetune(
        ground.task(lora=None, full={"bridge": {}, "low": {"lr": 0.001}}, max_steps=3, ema_decay=None), tmp_path
    )
    assert end.result is not None
    before, after = (read_layout(folder) for folder in (ground.checkpoint, end.result))
    for name, changes in {
        "dual_tower_bridge": True,
        "video_dit_2": True,
        "video_dit": False,
        "audio_dit": False,
    }.items():
        states = [load_component(layout, name).state_dict() for layout in (before, after)]
        assert any(not torch.equal(states[0][key], states[1][key]) for key in states[0]) == changes, name
    assert [one for one in health(end.result, checksums=True) if one.severity == "error"] == []
    assert len((end.result / "checksums.sha256").read_text().splitlines()) > 10


def test_a_part_that_learnt_nothing_is_refused_at_the_end_with_the_reason(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="low learnt nothing in 1 updates: every lora_B is zero"):
        finetune(ground.task(max_steps=1), tmp_path)
    assert not (tmp_path / "lora.safetensors").exists()
    checkpoint = latest_checkpoint(tmp_path)
    assert set(read_lora(checkpoint / "lora.safetensors").adapters) == {"video_dit", "audio_dit", "dual_tower_bridge"}


def test_silent_clips_alone_cannot_teach_sound(ground: Ground, tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", count=1, silent=(0,))
    data = {"sets": [{"path": str(clips)}], "cache": str(tmp_path / "cache")}
    with pytest.raises(InputError, match="no clip has sound, so audio and bridge would learn nothing"):
        ground.task(data=data)
    assert ground.task(data=data, lora={"high": {}, "low": {}}).clips.any_sound is False
    with pytest.raises(InputError, match="has no sound"):
        ground.task(data={**data, "silent": "refuse"}, lora={"high": {}, "low": {}})


@pytest.mark.parametrize("name", ["save", "stop"])
def test_a_file_in_the_run_folder_saves_or_stops(ground: Ground, tmp_path: Path, name: str) -> None:
    run = ground.trainer(tmp_path, max_steps=5, keep_last=5)

    class Wish:
        name = "wish"
        every = 3

        def __call__(self, moment: object) -> dict[str, float]:
            if run.step == 3:
                (tmp_path / name).touch()
            return {}

    run.hooks = [Wish()]
    end = run.run()
    saved = [int(path.name[-8:]) for path in checkpoint_folders(tmp_path)]
    assert (end.reason, saved) == (("finished", [3, 5]) if name == "save" else ("interrupted", [3]))
    assert not (tmp_path / name).exists()


def test_other_data_or_settings_are_refused_on_resume_unless_named(ground: Ground, tmp_path: Path) -> None:
    ground.trainer(tmp_path, max_steps=2).run()
    other = {"optimizer": {"lr": 0.02, "warmup": 2}, "max_steps": 4}
    with pytest.raises(CheckpointError, match=r"changed since the checkpoint in max_steps, optimizer\.lr"):
        ground.trainer(tmp_path, **other).resume()
    ground.trainer(tmp_path, **other).resume(allow=["optimizer", "max_steps"])
    clips = write_clips(tmp_path / "clips", count=1)
    data = {"sets": [{"path": str(clips)}], "cache": str(tmp_path / "cache")}
    with pytest.raises(CheckpointError, match=r"data\.content"):
        ground.trainer(tmp_path, max_steps=2, data=data).resume(allow=["data.sets", "data.cache"])
    ground.trainer(tmp_path, max_steps=2, data=data).resume(allow=["data"])


def test_buckets_come_by_their_weight_and_rows_evenly_whatever_the_batch_size() -> None:
    order = BucketOrder([[1.0] * 6, [2.0, 2.0]], seed=1)
    drawn = [order.batch(number, 3) for number in range(2000)]
    assert sum(bucket == 0 for bucket, _ in drawn) / 2000 == pytest.approx(0.6, abs=0.03)
    rows = [row for bucket, chosen in drawn if bucket == 0 for row in chosen]
    assert max(map(rows.count, range(6))) - min(map(rows.count, range(6))) <= 1
    assert BucketOrder([[1.0] * 6, [2.0, 2.0]], seed=1).batch(1999, 3) == drawn[1999]


def test_checkpointing_with_activation_offload_changes_no_gradient(ground: Ground, tmp_path: Path) -> None:
    def gradients(**changes: bool) -> list[torch.Tensor]:
        run = ground.trainer(tmp_path, **changes)
        run.accumulate_gradients()
        return [p.grad for p in run.parameters.values() if p.grad is not None]

    plain = gradients()
    for changes in ({"gradient_checkpointing": True}, {"gradient_checkpointing": True, "activation_offload": True}):
        for one, other in zip(plain, gradients(**changes), strict=True):
            assert torch.allclose(one, other, atol=1e-7)


def test_bug_autocast_on_a_cpu_does_not_mix_half_precision_latents(ground: Ground) -> None:
    clips = ground.task().clips
    with torch.autocast("cpu", torch.bfloat16):
        inside = clips.batch(0, 2, torch.device("cpu")).sample
    assert torch.equal(inside.video, clips.batch(0, 2, torch.device("cpu")).sample.video)
