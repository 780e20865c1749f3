"""Whole weights trained by processes that have a part of each: what they learn, keep, refuse, and hand over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.finetune_helpers import Ground
from tests.unit.process_helpers import SETTINGS, assert_close, facts, learnt, run_processes

from phonofilm.errors import CheckpointError, InputError
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_component
from phonofilm.training.checkpointing.run_folder import checkpoint_folders, latest_checkpoint
from phonofilm.training.checkpointing.sharded_files import SavedWeights, saved_names
from phonofilm.training.checkpointing.snapshot import load_snapshot
from phonofilm.training.config.config_files import parse_config
from phonofilm.training.loop.metrics_log import read_metrics

# Two minutes of two cores. That weights in parts learn and validate, test_finetune_processes.py shows on every run.
pytestmark = pytest.mark.slow

PARTS: dict[str, Any] = {"high": {}, "low": {}, "audio": {"lr": 0.001}, "bridge": {}}
WHOLE = {key: value for key, value in SETTINGS.items() if key != "lora"} | {"full": PARTS, "batch_size": 1}
RATE = {"lr": 0.0003, "eps": 1e-3, "warmup": 2, "schedule": "cosine"}
WHOLE |= {"gradient_checkpointing": True, "optimizer": RATE, "max_steps": 4, "accumulate": 2}
CUT = {**WHOLE, "mode": "fsdp"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def output(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes."""
    plan = [
        {"folder": "whole", "config": WHOLE},
        {"folder": "cut", "config": CUT, "validates": True},
        {"folder": "halves", "config": CUT, "until": 2, "breaks": True},
        {"folder": "halves", "config": CUT, "breaks": True},
        {"folder": "shared", "config": {**CUT, "context_parallel": 2, "max_steps": 2}},
        {"folder": "shared-whole", "config": {**WHOLE, "context_parallel": 2, "max_steps": 2}},
        {"folder": "part", "config": {**CUT, "full": {"bridge": {}}, "max_steps": 1}},
        {"folder": "exported", "config": {**CUT, "max_steps": 2}, "exports": True},
        {"folder": "poisoned", "config": CUT, "until": 1},
        {"folder": "poisoned", "config": CUT, "poisons": True},
    ]
    return run_processes(2, plan, ground, tmp_path_factory.mktemp("cut"))


def averaged(folder: Path) -> dict[str, torch.Tensor]:
    average = load_snapshot(latest_checkpoint(folder)).average
    assert average is not None
    return average


def test_parts_of_weights_learn_what_whole_weights_learn(output: Path) -> None:
    assert_close(learnt(output / "cut"), averaged(output / "whole"))
    assert_close(learnt(output / "shared"), averaged(output / "shared-whole"))
    assert facts(output, "cut")[0]["rate"] == facts(output, "whole")[0]["rate"]


def test_each_process_holds_its_part_and_gathers_one_fused_layer(output: Path) -> None:
    for told in facts(output, "cut"):
        held, everything = told["held"]
        assert held < 0.55 * everything  # the first process keeps what has one row only
        assert told["layers"]["most"] <= 4 < told["layers"]["all"]


def test_adapters_too_gather_one_fused_layer_of_the_base(ground: Ground, tmp_path: Path) -> None:
    config = {**SETTINGS, "batch_size": 1, "mode": "fsdp", "gradient_checkpointing": True, "max_steps": 2}
    run_processes(2, [{"folder": "lora", "config": config}], ground, tmp_path)
    for told in facts(tmp_path, "lora"):
        assert told["layers"]["most"] <= 4 < told["layers"]["all"]


def test_resume_in_parts_is_exact_whatever_hooks_fail(output: Path) -> None:
    straight, halves = facts(output, "cut"), facts(output, "halves")
    assert [one["state"] for one in straight] == [one["state"] for one in halves]
    assert straight[0]["state"] != straight[1]["state"], "each has its own part"
    failed = [step for step, _, name, _ in read_metrics(output / "halves") if name == "failed/breaking"]
    assert failed == [0, 2, 4]


def test_validation_keeps_the_best_weights_in_parts(output: Path) -> None:
    metrics = read_metrics(output / "cut")
    assert [step for step, _, name, _ in metrics if name == "val/video"] == [0, 3, 4]
    assert SavedWeights(output / "cut" / "best").keys() == learnt(output / "cut").keys()
    assert not list(output.glob("cut/.*"))


def test_what_is_frozen_is_not_saved(output: Path) -> None:
    names = set(SavedWeights(latest_checkpoint(output / "part")))
    assert names
    assert all(name.startswith("high.bridge.") for name in names)


def test_an_expert_that_had_no_turn_yet_has_no_optimizer_state(output: Path) -> None:
    (only,) = checkpoint_folders(output / "poisoned")
    kept = {
        name.split(".")[1] + "." + name.split(".")[2] for name in saved_names(only) if name.startswith("optimizer.")
    }
    assert kept == {"high.video", "high.audio", "high.bridge"}


def test_a_number_that_is_not_finite_in_one_part_is_refused_by_all(output: Path) -> None:
    for rank in range(2):
        said = (output / f"poisoned.refused{rank}.txt").read_text()
        assert "weights.high.audio.blocks.0.ffn.0.weight holds values that are not finite (process 1)" in said
    assert [path.name for path in checkpoint_folders(output / "poisoned")] == ["step-00000001"]


def test_a_finished_run_hands_over_a_checkpoint_folder(ground: Ground, output: Path) -> None:
    layout, base = (read_layout(folder) for folder in (output / "exported" / "checkpoint", ground.checkpoint))
    weights = learnt(output / "exported")
    for component, prefix in (("video_dit_2", "low.video"), ("dual_tower_bridge", "high.bridge")):
        dtype = next(iter(base.components[component].entries.values())).dtype
        for name, tensor in load_component(layout, component, dtype, torch.device("cpu")).state_dict().items():
            assert torch.equal(tensor, weights[f"{prefix}.{name}"].to(dtype)), name


def test_parts_go_on_in_another_number_of_processes_and_whole(ground: Ground, output: Path, tmp_path: Path) -> None:
    for name in ("four", "one"):
        source = latest_checkpoint(output / "halves")
        shutil.copytree(source, tmp_path / name / "checkpoints" / source.name)
    longer = {**CUT, "max_steps": 5}
    allow = ["processes", "max_steps", "mode"]
    expected = dict(SavedWeights(latest_checkpoint(output / "halves")))
    alone = ground.trainer(tmp_path / "one", **{**longer, "lora": None, "mode": "accelerate"})
    with pytest.raises(CheckpointError, match="mode"):
        alone.resume()
    with pytest.raises(
        CheckpointError, match="the run used 2 processes and now has 1; use as many, or allow processes"
    ):
        alone.resume(["mode", "max_steps"])
    alone.resume(allow)
    assert alone.step == 4
    assert alone.average is not None
    assert all(torch.equal(alone.average.state_dict()[name], tensor) for name, tensor in expected.items())
    run_processes(4, [{"folder": "four", "config": longer, "allow": allow}], ground, tmp_path)
    alone.run()
    last = latest_checkpoint(tmp_path / "four")
    assert last.name == "step-00000005"
    moved = SavedWeights(last)
    assert moved.keys() == expected.keys()
    assert any(not torch.equal(moved[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"name": "muon"}}, "muon with full in mode fsdp: it needs whole weights; use adamw"),
        ({"precision": "fp16"}, "fp16 with full in mode fsdp"),
        ({"mode": "low_resource"}, "use lora, or mode fsdp"),
    ],
)
def test_full_training_in_parts_refuses_what_it_cannot_do(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse_config({**CUT, "data": {"cache": str(tmp_path)}, **changes}, "test")
