"""Samples while a model trains: what they are, that they leave no trace, that a failing one is reported."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.watching_helpers import config, task_of, write_clips

from phonofilm.media import read_clip
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.finetune_hooks import finetune_hooks
from phonofilm.training.loop.metrics_log import read_metrics
from phonofilm.training.loop.previews import SampleHook
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.validation import ValidationLoss
from phonofilm.training.task.finetune_task import FinetuneTask
from phonofilm.training.task.interface import HookContext


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("previews")
    task_of(config(write_clips(folder / "clips")), folder)  # leaves the cache that the others use
    return folder


@pytest.fixture(scope="module")
def task(home: Path) -> FinetuneTask:
    return task_of(config(home / "clips"), home)


@pytest.fixture(scope="module")
def hook(task: FinetuneTask, home: Path) -> SampleHook:
    (found,) = [hook for hook in finetune_hooks(task, home) if isinstance(hook, SampleHook)]
    return found


def everything(trainer: Trainer) -> str:
    """All that training goes on from: weights, gradients, optimizers, random states, modes."""
    snapshot = trainer.snapshot()
    gradients = {name: p.grad for name, p in trainer.parameters.items()}
    modes = [module.training for module in trainer.task.model.modules()]
    state = {key: value for key, value in snapshot.state.items() if key != "elapsed"}
    drawn = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]  # noqa: NPY002
    return digest([snapshot.weights, snapshot.average, state, gradients, modes, drawn])


def test_a_run_samples_picture_and_sound_at_the_start_and_every_n_updates(home: Path, tmp_path: Path) -> None:
    task = task_of(config(home / "clips", data={"cache": str(home / "cache")}), tmp_path)
    Trainer(task, task.config, tmp_path, finetune_hooks(task, tmp_path)).run(until=2)
    for step in (0, 2):
        folder = tmp_path / "samples" / f"step-{step:06d}"
        clip = read_clip(folder / "00.mp4")
        assert clip.frames.shape == (5, 16, 16, 3)
        assert clip.audio is not None
        assert clip.metadata["prompt"] == "a red ball"
        assert (folder / "00.png").exists()
    assert not [row for row in read_metrics(tmp_path) if row[2].startswith("failed/")]
    assert {"val/video", "val/audio", "val/mean", "val/high/audio/0.97", "val/low/video/0.5"} <= {
        row[2] for row in read_metrics(tmp_path)
    }
    assert {path.name for path in tmp_path.glob("best*")} == {"best", "best-video", "best-audio"}


def test_a_sample_is_the_same_each_time_and_changes_with_what_was_learnt(task: FinetuneTask, hook: SampleHook) -> None:
    preview = hook.previews[0]
    before, again = (hook.make(preview, {}) for _ in range(2))
    assert np.array_equal(before.frames, again.frames)
    learnt = [p for name, p in task.model.named_parameters() if ".lora_B." in name]
    with torch.no_grad():
        for parameter in learnt:
            parameter.add_(0.3)
    after = hook.make(preview, {})
    with torch.no_grad():
        for parameter in learnt:
            parameter.zero_()
    assert not np.array_equal(before.frames, after.frames)
    assert before.audio is not None
    assert after.audio is not None
    assert not np.array_equal(before.audio, after.audio)


def test_both_experts_make_a_sample_and_each_is_brought_before_it_runs(hook: SampleHook) -> None:
    brought: list[str] = []
    usual, hook.activate = hook.activate, brought.append
    hook.make(hook.previews[0], {}, num_inference_steps=4)
    hook.activate = usual
    assert list(dict.fromkeys(brought)) == ["high", "low"]


def test_bug_previews_that_run_out_of_memory(
    task: FinetuneTask,
    hook: SampleHook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ours are reported, and leave training bit-identical."""
    trainer = Trainer(task, task.config, tmp_path)
    trainer.accumulate_gradients()

    def decode(*_: object, **__: object) -> None:
        torch.rand(1)
        random.random()
        np.random.rand()  # noqa: NPY002
        for parameter in trainer.parameters.values():
            parameter.grad = torch.full_like(parameter, 7.0)
        raise torch.OutOfMemoryError("out of memory while decoding")

    monkeypatch.setattr(hook.studio.audio_vae, "decode", decode)
    before = everything(trainer)
    told = trainer._run_hook(hook, tmp_path)
    assert told == {"failed/samples": 1.0}
    assert "out of memory while decoding" in caplog.text
    assert everything(trainer) == before


def test_a_sample_that_succeeds_leaves_training_bit_identical_too(
    task: FinetuneTask, hook: SampleHook, tmp_path: Path
) -> None:
    trainer = Trainer(task, task.config, tmp_path)
    trainer.accumulate_gradients()
    before = everything(trainer)
    assert set(trainer._run_hook(hook, tmp_path)) == {"sample/00"}
    assert everything(trainer) == before


def test_without_prompts_the_first_captions_are_sampled(home: Path, tmp_path: Path) -> None:
    told = config(home / "clips", data={"cache": str(home / "cache")}, samples={"steps": 1})
    hooks = finetune_hooks(task_of(told, tmp_path), tmp_path)
    (samples,) = [hook for hook in hooks if isinstance(hook, SampleHook)]
    assert [preview.prompt for preview in samples.previews] == ["a clip of colour 0", "a clip of colour 1"]
    assert samples.steps == 1
    assert samples.settings["num_frames"] == 5


def test_zero_switches_samples_and_validation_off(home: Path, tmp_path: Path) -> None:
    cached = {"cache": str(home / "cache")}
    told = config(home / "clips", data=cached, samples={"every": 0}, validation={"every": 0})
    assert finetune_hooks(task_of(told, tmp_path), tmp_path) == ()


def test_validation_scores_held_out_clips_when_they_are_named(home: Path, tmp_path: Path) -> None:
    other = write_clips(tmp_path / "other", count=3)
    told = config(home / "clips", samples={"every": 0}, validation={"sets": [str(other)], "clips": 3, "every": 1})
    (validation,) = finetune_hooks(task_of(told, tmp_path), tmp_path)
    assert isinstance(validation, ValidationLoss)
    assert sum(batch.sample.video.shape[0] for batch in validation.batches(torch.device("cpu"))) == 3
    values = validation(HookContext(0, 0.0, tmp_path))
    assert values == validation(HookContext(0, 0.0, tmp_path))
