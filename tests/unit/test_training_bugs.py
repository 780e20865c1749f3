"""Each bug of the four trainers that exist for MOVA, as far as it concerns the training itself, by its name.

The others have theirs elsewhere: data in test_data_*, samples in test_training_previews, ranks in test_tune_processes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.unit.finetune_helpers import ALL_PARTS, Ground, write_clips

from phonofilm.errors import CheckpointError
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.reading import read_lora
from phonofilm.lora.writing import save_lora
from phonofilm.training.checkpointing.run_folder import latest_checkpoint
from phonofilm.training.config.training_config import OptimizerConfig
from phonofilm.training.finetune import finetune, prepare_finetune
from phonofilm.training.loop.optimizers import rate_factor
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.timesteps import draw_sigmas


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def run(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of four updates, finished."""
    trainer = ground.trainer(
        tmp_path_factory.mktemp("run"), max_steps=4, lora={**ALL_PARTS, "low": {"rank": 2, "alpha": 6}}
    )
    trainer.run()
    return trainer


def test_bug_empty_lora_saved(run: Trainer, tmp_path: Path) -> None:
    lora = read_lora(latest_checkpoint(run.folder) / "lora.safetensors")
    assert {component: len(layers) for component, layers in lora.adapters.items()} == dict.fromkeys(
        ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge"), 16
    )
    with pytest.raises(CheckpointError, match="empty"):
        save_lora(LoraFile(lora.layout, {}), tmp_path / "empty.safetensors")


def test_bug_saved_rank_is_a_class_name_and_alpha_a_constant(run: Trainer) -> None:
    with safe_open(latest_checkpoint(run.folder) / "lora.safetensors", "pt") as file:
        header = file.metadata()
    assert json.loads(header["rank"]) == {"video_dit": 4, "video_dit_2": 2, "audio_dit": 4, "dual_tower_bridge": 4}
    assert json.loads(header["alpha"])["video_dit_2"] == 6


def test_bug_target_patterns_train_other_layers_than_were_asked(ground: Ground) -> None:
    task = ground.task(lora={"high": {"rank": 2}})
    adapted = {name.split(".lora_")[0] for name, p in task.model.named_parameters() if p.requires_grad}
    ends = {name.rpartition(".")[2] for name in adapted}
    assert ends == {"q", "k", "v", "o"}
    assert all(name.startswith("high.video.blocks.") for name in adapted)


def test_bug_cosine_rate_reaches_zero_halfway_and_climbs_back(ground: Ground, tmp_path: Path) -> None:
    config = OptimizerConfig(warmup=0, schedule="cosine", final=0.0)
    trainer = ground.trainer(tmp_path, max_steps=10, accumulate=3, optimizer={"lr": 0.01, "warmup": 0})
    rates = []
    for step in range(10):
        trainer.step = step
        rates.append(rate_factor(config, step, trainer.done))
    assert rates == sorted(rates, reverse=True)
    assert rates[5] == pytest.approx(0.5)


def test_bug_max_steps_counts_micro_batches(ground: Ground, tmp_path: Path) -> None:
    trainer = ground.trainer(tmp_path, max_steps=2, accumulate=3, lora={"audio": {"rank": 2}})
    micro_steps = []
    loss = trainer.task.loss
    trainer.task.loss = lambda model, turn: (micro_steps.append(turn.micro), loss(model, turn))[1]
    assert trainer.run().step == 2
    assert micro_steps == [0, 1, 2] * 2


def test_bug_warm_ups_first_update_has_rate_zero() -> None:
    assert rate_factor(OptimizerConfig(warmup=100), 0, 0.0) > 0


def test_bug_whole_base_model_written_with_every_checkpoint(run: Trainer) -> None:
    written = load_file(latest_checkpoint(run.folder) / "model.safetensors")
    assert all("lora_" in name for name in written)


def test_bug_silent_auto_resume_under_a_changed_config(ground: Ground, run: Trainer) -> None:
    task = ground.task(max_steps=9)
    with pytest.raises(Exception, match="already holds checkpoints"):
        finetune(task, run.folder)
    with pytest.raises(CheckpointError, match="max_steps"):
        finetune(ground.task(max_steps=9), run.folder, resume=True)


def test_bug_clip_without_sound_kills_the_run_or_is_replaced(ground: Ground) -> None:
    clips = ground.task().clips
    assert [entry.has_audio for entry in clips.index.entries] == [True, True, False]
    names = {clips.buckets["32x32x5"][row].name for k in range(6) for row in clips._order.batch(k, 1)[1]}
    assert len(names) == 3


def test_bug_audio_trained_though_switched_off(ground: Ground, tmp_path: Path) -> None:
    trainer = ground.trainer(tmp_path, lora={"high": {"rank": 2}, "low": {"rank": 2}}, objective={"audio_weight": 0})
    before = {name: p.detach().clone() for name, p in trainer.task.model.high.audio.named_parameters()}
    trainer.run(until=2)
    assert all(torch.equal(p, before[name]) for name, p in trainer.task.model.high.audio.named_parameters())


def test_bug_experts_swapped(ground: Ground) -> None:
    task = ground.task()
    generator = torch.Generator().manual_seed(0)
    for expert in ("high", "low"):
        sigmas = draw_sigmas(task.objective.timesteps, expert, 500, generator).video
        assert bool((sigmas >= 0.9).all()) == (expert == "high")
        assert bool((sigmas < 0.9).all()) == (expert == "low")
    assert [task.expert(step) for step in (0, 1)] == ["high", "low"]


def test_bug_caption_dropout_missing(ground: Ground) -> None:
    clips = ground.task().clips
    batch = clips.batch_of("32x32x5", clips.index.entries[:2], torch.device("cpu"))
    kept = batch.prompts(torch.tensor([True, True]))
    hidden = batch.prompts(torch.tensor([True, False]))
    assert torch.equal(kept.embeds[0, : kept.lengths[0]], hidden.embeds[0, : hidden.lengths[0]])
    assert hidden.lengths[1] < kept.lengths[1]
    assert ground.config().objective.caption_dropout == 0.1


def test_bug_lora_weights_in_bfloat16_without_a_float32_master(ground: Ground, tmp_path: Path) -> None:
    trainer = ground.trainer(tmp_path, base_dtype="bfloat16", lora={"audio": {"rank": 2}})
    assert {p.dtype for p in trainer.parameters.values()} == {torch.float32}
    assert trainer.task.model.high.audio.blocks[0].self_attn.q.base_layer.weight.dtype == torch.bfloat16


def test_bug_stale_caches_without_audio(ground: Ground, tmp_path: Path) -> None:
    clips, lora = write_clips(tmp_path / "clips", count=1, silent=(0,)), {"high": {}, "low": {}}
    data = {"sets": [{"path": str(clips)}], "cache": str(tmp_path / "cache")}
    assert not prepare_finetune(ground.config(data=data, lora=lora), tmp_path).clips.any_sound
    (clips / "0.mp4").unlink()
    write_clips(tmp_path / "heard", count=1)
    (tmp_path / "heard" / "0.mp4").rename(clips / "0.mp4")
    assert prepare_finetune(ground.config(data=data, lora=lora), tmp_path).clips.any_sound


def test_bug_text_encoder_left_in_train_mode(ground: Ground) -> None:
    """There is none in the trained model: captions were encoded in evaluation mode, once."""
    model = ground.task().model
    model.train()
    assert model.text is None
    clips = ground.task().clips
    entry = clips.index.entries[0]
    once, again = (clips.batch_of(entry.bucket, [entry], torch.device("cpu")) for _ in range(2))
    keep = torch.tensor([True])
    assert torch.equal(once.prompts(keep).embeds, again.prompts(keep).embeds)
