"""The paired schedule and one Euler step agree with the original's numbers."""

from __future__ import annotations

import json

import pytest
import torch
from tests.conftest import Golden, relative_error

from phonofilm.errors import InputError
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, TrackStep, euler_step

TOLERANCE = 1e-6


@pytest.fixture
def plain() -> FlowMatchPairScheduler:
    return FlowMatchPairScheduler(shift=5.0)


def test_timesteps_and_pairs(plain: FlowMatchPairScheduler, golden: Golden) -> None:
    assert relative_error(plain.pairs(6), golden["scheduler/pairs_6"]) <= TOLERANCE
    assert relative_error(plain.pairs(6)[:, 0], golden["scheduler/timesteps_6"]) <= TOLERANCE
    assert relative_error(plain.pairs(6, 7.0, 3.0), golden["scheduler/pairs_6_v7_a3"]) <= TOLERANCE


def test_training_table_and_noise(plain: FlowMatchPairScheduler, golden: Golden) -> None:
    for index in (3, 500, 997):
        t = golden[f"scheduler/t_{index}"]
        assert relative_error(plain.train_timesteps[index : index + 1], t) <= TOLERANCE
        noised = plain.add_noise(golden["scheduler/x"], golden["scheduler/noise"], t)
        assert relative_error(noised, golden[f"scheduler/add_noise_{index}"]) <= TOLERANCE


def one_step(scheduler: FlowMatchPairScheduler, t_from: torch.Tensor, t_to: torch.Tensor | None, golden: Golden):
    sigma_next = 0.0 if t_to is None else float(scheduler.sigma_of(t_to))
    step = TrackStep(float(t_from), float(scheduler.sigma_of(t_from)), sigma_next)
    return euler_step(golden["scheduler/x"], golden["scheduler/noise"], step)


def test_steps_snap_to_the_table(plain: FlowMatchPairScheduler, golden: Golden) -> None:
    pairs = golden["scheduler/pairs_6_v7_a3"]
    for column, name in enumerate("va"):
        ours = one_step(plain, pairs[1, column], pairs[2, column], golden)
        assert relative_error(ours, golden[f"scheduler/step_{name}"]) <= TOLERANCE
    assert relative_error(one_step(plain, pairs[-1, 0], None, golden), golden["scheduler/step_last"]) <= TOLERANCE


def test_extra_one_step(golden: Golden) -> None:
    scheduler = FlowMatchPairScheduler(shift=5.0, extra_one_step=True)
    timesteps = scheduler.pairs(30)[:, 0]
    assert relative_error(timesteps, golden["scheduler/extra_one_step_timesteps_30"]) <= TOLERANCE
    ours = one_step(scheduler, timesteps[11], timesteps[12], golden)
    assert relative_error(ours, golden["scheduler/extra_one_step_step_11"]) <= TOLERANCE
    last = one_step(scheduler, timesteps[-1], None, golden)
    assert relative_error(last, golden["scheduler/extra_one_step_last"]) <= TOLERANCE


def test_the_checkpoints_own_pairs(golden: Golden) -> None:
    config = json.loads((golden.checkpoint / "scheduler/scheduler_config.json").read_text())
    scheduler = FlowMatchPairScheduler.from_config(config)
    meta = golden.meta
    pairs = scheduler.pairs(meta["num_inference_steps"], meta["video_shift"], meta["audio_shift"])
    assert relative_error(pairs, golden["pipeline/pairs"]) <= TOLERANCE


def test_fifty_steps_switch_expert_after_eighteen() -> None:
    scheduler = FlowMatchPairScheduler(shift=5.0, extra_one_step=True)
    high = [step for step in scheduler.steps(50) if step.video.timestep >= 900]
    assert len(high) == 18


def test_last_step_ends_at_zero(plain: FlowMatchPairScheduler) -> None:
    steps = plain.steps(7, video_shift=2.0)
    assert steps[-1].video.sigma_next == steps[-1].audio.sigma_next == 0.0
    assert [s.video.sigma_next for s in steps[:-1]] == [s.video.sigma for s in steps[1:]]


@pytest.mark.parametrize("arguments", [(0,), (-3,), (4, 0.0), (4, None, -1.0)])
def test_bad_schedules_are_refused(plain: FlowMatchPairScheduler, arguments: tuple) -> None:
    with pytest.raises(InputError):
        plain.steps(*arguments)
