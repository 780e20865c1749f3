"""The measured dry run: that it scales as depth does, sees what costs, and leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.test_training_previews import everything
from tests.unit.watching_helpers import config, task_of, write_clips

from phonofilm.training.config.training_config import LoopConfig
from phonofilm.training.dry_run.estimate import Estimate, HookCost, UpdateCost
from phonofilm.training.dry_run.layer_depth import Depth, depth_of, depths_to_measure, fit_depth, truncated
from phonofilm.training.dry_run.peak_memory import LiveBytes, peak_of
from phonofilm.training.finetune_hooks import finetune_dry_run, finetune_hooks
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.finetune_task import FinetuneTask

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("dry-run")
    write_clips(folder / "clips")
    return folder


@pytest.fixture(scope="module")
def task(home: Path) -> FinetuneTask:
    return task_of(config(home / "clips", ema_decay=0.9), home)


def test_a_shallow_model_computes_its_first_layers_and_comes_back_whole(task: FinetuneTask) -> None:
    full = depth_of(task.model.high)
    assert full == Depth(3, 1)
    video, bridge = task.model.high.video, task.model.high.bridge
    layers = (video.blocks, task.model.high.audio.blocks, bridge.interaction_layers)
    with truncated(task.model, Depth(1, 1)):
        assert task.model.high.num_layers == 2
        assert len(task.model.high.audio.blocks) == 1
        assert task.model.low is not None
        assert task.model.low.num_layers == 2
        assert bridge.interaction_layers == (0,)
        assert video.get_submodule("blocks.3") is layers[0][3]
    assert (video.blocks, task.model.high.audio.blocks, bridge.interaction_layers) == layers


def test_what_grows_evenly_with_depth_is_scaled_exactly() -> None:
    full = Depth(30, 10)
    found = {depth: 7.0 + 2 * depth.fused + 0.5 * depth.alone for depth in depths_to_measure(full)}
    assert fit_depth(found).at(full) == 7 + 60 + 5
    assert depths_to_measure(Depth(1)) == (Depth(1),)


def test_peak_memory_is_of_what_lives_at_once_forward_and_backward() -> None:
    x = torch.ones(1000, requires_grad=True)
    with LiveBytes(CPU) as counter:
        (x.exp() * 2).sum().backward()
    assert 3 <= counter.peak / 4000 <= 5
    with LiveBytes(CPU) as counter:
        for _ in range(20):
            torch.ones(1000).mul(2)
    assert counter.peak == 8000


def test_a_peak_holds_what_no_tensor_shows() -> None:
    with peak_of(CPU) as peak:
        room = bytearray(80_000_000)
        torch.ones(1000)
        del room
    assert peak.nbytes > 70_000_000 or not Path("/proc/self/clear_refs").exists()


def test_the_dry_run_leaves_training_bit_identical_and_names_every_cost(
    task: FinetuneTask, home: Path, tmp_path: Path
) -> None:
    trainer = Trainer(task, task.config, tmp_path, finetune_hooks(task, home))
    trainer.accumulate_gradients()
    before = everything(trainer)
    estimate = finetune_dry_run(task, trainer)
    assert everything(trainer) == before
    assert list(estimate.updates) == ["16x16x5"]
    assert [look.name for look in estimate.looks] == ["validation", "samples"]
    assert estimate.persistent == pytest.approx(3 * estimate.trained, rel=0.05)  # AdamW's two moments and the average
    assert estimate.looks[1].files > 1000
    assert estimate.seconds_per_update > 0
    assert estimate.peak > estimate.base + estimate.persistent
    assert [row[0] for row in estimate.lines()] == [
        "resident memory",
        "disk",
        "one update",
        "validation",
        "samples",
        "whole run",
    ]


def test_the_peak_of_an_update_is_at_least_that_of_the_whole_models_tensors(task: FinetuneTask, tmp_path: Path) -> None:
    trainer = Trainer(task, task.config, tmp_path)
    (cost,) = finetune_dry_run(task, trainer).updates.values()
    trainer._update()
    counter = LiveBytes(CPU)
    with counter:
        trainer._update()
    assert cost.peak > 0.9 * counter.peak


def estimate(**changes: object) -> Estimate:
    settings = {"max_steps": 10, "keep_last": 2, **changes}
    looks = (HookCost("validation", 4, 5.0, 100, 0), HookCost("samples", 5, 20.0, 3000, 7))
    updates = {"a": UpdateCost(2.0, 1.0, 2000, 2.0), "b": UpdateCost(4.0, 1.0, 500, 2.0)}
    shares = {"a": 3.0, "b": 1.0}
    return Estimate("cpu", 10_000, 10_000, 10, 30, updates, shares, 0.5, 2, looks, LoopConfig.model_validate(settings))


def test_the_whole_run_is_updates_and_everything_that_looks_on() -> None:
    found = estimate()
    assert found.seconds_of("a") == 2 * 2 + 1 + 0.5
    assert found.seconds_per_update == (3 * 5.5 + 9.5) / 4
    assert found.total_seconds == 10 * 6.5 + 4 * 5 + 3 * 20  # validation at 0, 4, 8, 10; samples at 0, 5, 10
    assert found.peak == 10_000 + 30 + 10 + 3000
    assert found.disk == 3 * 40 + 3 * 10 + 3 * 7


def test_a_run_that_ends_by_time_makes_as_many_updates_as_fit() -> None:
    assert estimate(max_steps=None, budget_seconds=117.5).count_updates() == 10
    assert estimate(max_steps=4, budget_seconds=117.5).count_updates() == 4
