"""Two processes train one model: the same gradients as one, the same weights in both, exact resume, each its own noise."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.unit.finetune_helpers import Ground
from tests.unit.process_helpers import SETTINGS, assert_close, facts, learnt, run_processes

from phonofilm.errors import InputError
from phonofilm.training.checkpointing.run_folder import latest_checkpoint
from phonofilm.training.checkpointing.snapshot import load_snapshot
from phonofilm.training.loop.metrics_log import read_metrics


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def output(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes: a straight run, one in two halves, and the gradients of one update."""
    config = {**SETTINGS, "batch_size": 1}
    checkpointed = {**config, "gradient_checkpointing": True}
    shared = {**checkpointed, "context_parallel": 2}
    plan = [
        {"folder": "straight", "config": config},
        {"folder": "halves", "config": config, "until": 3},
        {"folder": "halves", "config": config},
        {"folder": "gradients", "config": config, "gradients": True},
        {"folder": "sharded", "config": {**checkpointed, "mode": "fsdp"}, "validates": True},
        {"folder": "shared", "config": shared, "validates": True},
        {"folder": "shared-halves", "config": shared, "until": 3},
        {"folder": "shared-halves", "config": shared},
        {"folder": "shared-ring", "config": {**shared, "ulysses_degree": 1}},
        {"folder": "shared-sharded", "config": {**shared, "mode": "fsdp"}},
        {"folder": "shared-streamed", "config": {**shared, "mode": "low_resource"}},
    ]
    return run_processes(2, plan, ground, tmp_path_factory.mktemp("ranks"))


def test_both_processes_end_with_the_same_weights_and_rate(output: Path) -> None:
    one, other = facts(output, "straight")
    assert one["state"] == other["state"]
    assert one["rate"] == other["rate"] > 0


def test_cut_up_weights_learn_what_whole_ones_learn_and_validate_together(output: Path) -> None:
    one, other = facts(output, "sharded")
    assert one["state"] == other["state"]
    # Gathered weights lie elsewhere in memory, and products round by how their operands are aligned.
    assert_close(learnt(output / "sharded"), learnt(output / "straight"))
    metrics = read_metrics(output / "sharded")
    assert [step for step, _, name, _ in metrics if name == "val/video"] == [0, 3, 6]


@pytest.mark.parametrize("run", ["shared", "shared-ring", "shared-sharded", "shared-streamed"])
def test_two_processes_that_share_each_clip_learn_what_one_does(
    ground: Ground, output: Path, tmp_path: Path, run: str
) -> None:
    one, other = facts(output, run)
    for fact in ("noise", "first", "state"):
        assert one[fact] == other[fact]
    alone = ground.trainer(tmp_path, **{**SETTINGS, "batch_size": 1})
    alone.run()
    assert_close(learnt(output / run), learnt(tmp_path))


def test_processes_that_share_clips_validate_as_one_and_resume_exactly(
    ground: Ground, output: Path, tmp_path: Path
) -> None:
    assert facts(output, "shared")[0]["state"] == facts(output, "shared-halves")[0]["state"]
    whole, shared = ({(s, n): v for s, _, n, v in read_metrics(output / run)} for run in ("sharded", "shared"))
    at_start = [key for key in whole if key[0] == 0]
    assert len(at_start) > 10
    for key in at_start:
        assert shared[key] == pytest.approx(whole[key], rel=1e-4), key


@pytest.mark.slow
def test_pairs_that_share_clips_learn_what_two_with_whole_ones_do(ground: Ground, output: Path, tmp_path: Path) -> None:
    config = {**SETTINGS, "batch_size": 1, "context_parallel": 2}
    run_processes(4, [{"folder": "pairs", "config": config}], ground, tmp_path)
    told = facts(tmp_path, "pairs", 4)
    assert [one["first"] for one in told] == [0, 0, 1, 1]
    assert len({one["state"] for one in told}) == 1
    assert_close(learnt(tmp_path / "pairs"), learnt(output / "straight"))


@pytest.mark.slow
def test_the_command_starts_processes_that_know_each_other_without_being_told_the_device(
    ground: Ground, tmp_path: Path
) -> None:
    settings = ["context_parallel=2", "max_steps=2", "samples.steps=2", "validation.every=0", "batch_size=1"]
    where = [f"model={ground.checkpoint}", f"data.cache={ground.cache}"]
    command = ["train", "--gpus", "2", "--config", "nano", "--output", str(tmp_path / "run"), *where, *settings]
    assert subprocess.run([sys.executable, "-m", "phonofilm", *command]).returncode == 0
    state = load_snapshot(latest_checkpoint(tmp_path / "run")).state
    assert state["processes"] == 2
    assert len(list((tmp_path / "run" / "samples").rglob("*.mp4"))) == 4


@pytest.mark.slow
def test_one_interrupt_saves_and_stops_all_processes(ground: Ground, tmp_path: Path) -> None:
    settings = ["max_steps=100000", "samples.every=0", "validation.every=0", "batch_size=1", "log_every=1"]
    where = [f"model={ground.checkpoint}", f"data.cache={ground.cache}"]
    words = ["train", "--gpus", "2", "--config", "nano", "--output", str(tmp_path / "run"), *where, *settings]
    run = subprocess.Popen(
        [sys.executable, "-m", "phonofilm", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    assert run.stdout is not None
    before = list(itertools.takewhile(lambda line: not line.startswith("step 1/"), run.stderr))
    assert run.poll() is None, before
    run.send_signal(signal.SIGTERM)
    after = run.stderr.read()
    assert "interrupted after" in run.stdout.read(), after
    assert run.wait() == 0
    assert "Traceback" not in after
    state = load_snapshot(latest_checkpoint(tmp_path / "run")).state
    assert state["processes"] == 2


def test_clips_cannot_be_shared_by_a_process_alone(ground: Ground) -> None:
    with pytest.raises(InputError, match="context_parallel is 2 and 1 process trains; start a multiple of 2"):
        ground.task(context_parallel=2)


def test_resume_on_two_processes_is_exact(output: Path) -> None:
    assert facts(output, "straight")[0]["state"] == facts(output, "halves")[0]["state"]


def test_bug_same_seed_on_every_rank_gives_identical_noise(output: Path) -> None:
    one, other = facts(output, "straight")
    assert one["noise"] != other["noise"]
    assert (one["first"], other["first"]) == (0, 1)


def test_gradients_of_two_processes_are_the_mean_of_what_each_saw(ground: Ground, output: Path, tmp_path: Path) -> None:
    shared = [torch.load(output / f"gradients.rank{rank}.pt") for rank in range(2)]
    run = ground.trainer(tmp_path, **{**SETTINGS, "batch_size": 1})
    parts = []
    for rank in range(2):
        turn = run.batch_index(0)
        both = type(turn)(turn.step, 0, 1, rank, 2, turn.seed)
        run.task.loss(run.task.model, both).total.backward()
        parts.append({name: p.grad for name, p in run.parameters.items() if p.grad is not None})
        for parameter in run.parameters.values():
            parameter.grad = None
    names = parts[0].keys() | parts[1].keys()
    assert shared[0].keys() == shared[1].keys() == names
    for name in names:
        expected = sum(part[name] for part in parts if name in part) / 2
        assert torch.equal(shared[0][name], shared[1][name])
        assert torch.allclose(shared[0][name], expected, atol=1e-7), name
