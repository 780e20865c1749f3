"""The loop: exact resume, schedules, checkpoints, hooks, signals; and that it learns both tracks with either optimizer."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.unit.training_helpers import tiny_model, write_latents

from phonofilm.errors import CheckpointError, InputError
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.checkpointing.run_folder import checkpoint_folders, latest_checkpoint
from phonofilm.training.checkpointing.snapshot import Snapshot, load_snapshot, load_weights
from phonofilm.training.checkpointing.whole_checkpointer import save_whole_checkpoint
from phonofilm.training.config.training_config import JointConfig, OptimizerConfig
from phonofilm.training.loop.metrics_log import read_metrics
from phonofilm.training.loop.optimizers import progress, rate_factor
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.validation import ValidationLoss, latent_batches
from phonofilm.training.task.interface import Hook, HookContext
from phonofilm.training.task.joint_task import JointTask, expert_at, train_joint
from phonofilm.training.task.latent_dataset import LatentDataset


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> LatentDataset:
    return write_latents(tmp_path_factory.mktemp("latents"), silent=(5,))


def config(**changes: object) -> JointConfig:
    settings: dict[str, object] = {
        "batch_size": 3,
        "max_steps": 20,
        "device": "cpu",
        "ema_decay": 0.9,
        "checkpoint_every": 0,
        "log_every": 5,
        "optimizer": {"name": "muon", "warmup": 3},
        "objective": {
            "timesteps": {"mode": "independent"},
            "hold_audio": 0.2,
            "hold_video": 0.2,
            "first_frame_dropout": 0.2,
            "unconditional_dropout": 0.2,
        },
    }
    return JointConfig.model_validate({**settings, **changes})


def trainer(
    latents: LatentDataset, folder: Path, settings: JointConfig, hooks: list[Hook] | None = None, seed: int = 0
) -> Trainer:
    model = tiny_model(seed, two_experts=settings.experts != "both-as-one")
    return Trainer(JointTask(model, latents, settings), settings, folder, hooks or [])


def state_hash(trained: Trainer) -> str:
    snapshot = trained.snapshot()
    state = {key: value for key, value in snapshot.state.items() if key != "elapsed"}
    return digest([snapshot.step, snapshot.weights, snapshot.average, state])


@pytest.mark.parametrize("experts", ["both-as-one", "alternate"])
def test_twenty_updates_equal_ten_and_ten_more_after_a_resume(
    latents: LatentDataset, tmp_path: Path, experts: str
) -> None:
    settings = config(experts=experts, accumulate=2)
    straight = trainer(latents, tmp_path / "straight", settings)
    straight.run()
    first = trainer(latents, tmp_path / "halves", settings)
    assert first.run(until=10).reason == "paused"
    second = trainer(latents, tmp_path / "halves", settings, seed=99)
    second.resume()
    assert second.step == 10
    assert second.run().reason == "finished"
    assert state_hash(second) == state_hash(straight)
    assert state_hash(first) != state_hash(straight)


@dataclass
class Vandal:
    """A hook that disturbs everything it can reach, then fails."""

    victim: torch.nn.Module
    name: str = "vandal"
    every: int = 4
    calls: int = 0

    def __call__(self, moment: HookContext) -> dict[str, float]:
        self.calls += 1
        self.victim.train()
        torch.rand(3)
        for parameter in self.victim.parameters():
            parameter.zero_()
        raise ValueError("no picture today")


def test_a_failing_sample_leaves_training_bit_identical_and_is_reported(latents: LatentDataset, tmp_path: Path) -> None:
    undisturbed = trainer(latents, tmp_path / "a", config(max_steps=9))
    undisturbed.run()
    disturbed = trainer(latents, tmp_path / "b", config(max_steps=9))
    vandal = Vandal(disturbed.task.model)
    disturbed.hooks = [vandal]
    disturbed.run()
    assert vandal.calls == 4
    assert state_hash(disturbed) == state_hash(undisturbed)
    reported = [row[0] for row in read_metrics(tmp_path / "b") if row[2] == "failed/vandal"]
    assert reported == [0, 4, 8, 9]


def test_hooks_see_the_averaged_weights_at_the_start_every_n_updates_and_at_the_end(
    latents: LatentDataset, tmp_path: Path
) -> None:
    settings = config(max_steps=5)
    run = trainer(latents, tmp_path, settings)
    seen: list[tuple[int, bool]] = []

    class Look:
        name = "look"
        every = 2

        def __call__(self, moment: HookContext) -> dict[str, float]:
            assert run.average is not None
            averages = run.average.state_dict()
            same = all(torch.equal(run.parameters[name].detach(), averages[name]) for name in averages)
            seen.append((moment.step, same))
            return {"look/seen": float(moment.step)}

    run.hooks = [Look()]
    run.run()
    assert seen == [(0, True), (2, True), (4, True), (5, True)]
    assert [row[3] for row in read_metrics(tmp_path) if row[2] == "look/seen"] == [0, 2, 4, 5]


def test_every_hook_looks_at_the_end_once_whatever_the_others_do(latents: LatentDataset, tmp_path: Path) -> None:
    run = trainer(latents, tmp_path, config(max_steps=6))
    seen: dict[str, list[int]] = {"validation": [], "samples": []}

    class Look:
        def __init__(self, name: str, every: int) -> None:
            self.name, self.every = name, every

        def __call__(self, moment: HookContext) -> dict[str, float]:
            seen[self.name].append(moment.step)
            return {}

    run.hooks = [Look("validation", 3), Look("samples", 4)]
    run.run()
    assert seen == {"validation": [0, 3, 6], "samples": [0, 4, 6]}


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("adamw", "no"), pytest.param("muon", "bf16-products", marks=pytest.mark.slow)]
)
def test_the_tiny_model_overfits_four_samples_in_both_modalities(
    tmp_path: Path, optimizer: str, precision: str
) -> None:
    data = write_latents(tmp_path / "latents", count=4)
    settings = config(
        batch_size=12,
        max_steps=90,
        log_every=10,
        ema_decay=None,
        precision=precision,
        optimizer={"name": optimizer, "lr": 1e-2, "muon_lr": 0.03, "warmup": 5},
        objective={"timesteps": {"mode": "independent", "video_shift": 1, "audio_shift": 1}, "caption_dropout": 0.0},
    )
    train_joint(tiny_model(), data, settings, tmp_path / "run")
    for modality in ("video", "audio"):
        losses = [row[3] for row in read_metrics(tmp_path / "run") if row[2] == f"loss/{modality}"]
        assert losses[0] > 1.2
        assert losses[-1] < 0.6 * losses[0], (modality, losses)


def test_losses_are_told_by_expert_modality_and_sigma_bucket(latents: LatentDataset, tmp_path: Path) -> None:
    trainer(latents, tmp_path, config(experts="alternate", max_steps=20, log_every=20)).run()
    names = {row[2] for row in read_metrics(tmp_path)}
    assert {"loss/high/video/0.90-1.00", "loss/low/video/0.00-0.25", "loss/high/audio/0.50-0.75"} <= names
    assert not any(name.startswith("loss/high/video/") and name != "loss/high/video/0.90-1.00" for name in names)
    assert not any(name == "loss/low/video/0.90-1.00" for name in names)


def test_experts_take_turns_and_audio_tower_and_bridge_learn_on_every_update(
    latents: LatentDataset, tmp_path: Path
) -> None:
    run = trainer(latents, tmp_path, config(experts="alternate", optimizer={"weight_decay": 0.0}))

    def changed_by_update(number: int) -> set[str]:
        before = {name: parameter.detach().clone() for name, parameter in run.parameters.items()}
        run.run(until=number)
        changed = {name for name, value in before.items() if not torch.equal(value, run.parameters[name].detach())}
        return {".".join(name.split(".")[:2]) for name in changed}

    shared = {"high.audio", "high.bridge"}
    run.run(until=2)  # from a head of zeros, nothing but the head gets a gradient at first
    first, second = changed_by_update(3), changed_by_update(4)
    assert shared | {"high.video"} <= first
    assert "low.video" not in first
    assert shared | {"low.video"} <= second
    assert not any(name.startswith(("low.audio", "low.bridge")) for name in run.parameters)


def test_only_the_named_components_and_the_active_expert_are_trained_and_saved(
    latents: LatentDataset, tmp_path: Path
) -> None:
    run = trainer(latents, tmp_path, config(experts="low", train=["video", "bridge"], max_steps=2))
    before = {name: parameter.detach().clone() for name, parameter in run.task.model.named_parameters()}
    run.run()
    parts = {".".join(name.split(".")[:2]) for name in load_snapshot(latest_checkpoint(tmp_path)).weights}
    assert parts == {"low.video", "high.bridge"}
    for name, parameter in run.task.model.named_parameters():
        if name.startswith(("high.video", "high.audio", "text")):
            assert torch.equal(parameter.detach(), before[name]), name


def test_experts_and_model_must_agree(latents: LatentDataset) -> None:
    with pytest.raises(InputError, match="one expert"):
        JointTask(tiny_model(), latents, config(experts="alternate"))
    with pytest.raises(InputError, match="two experts"):
        JointTask(tiny_model(two_experts=True), latents, config())
    assert [expert_at("alternate", step) for step in range(3)] == ["high", "low", "high"]


def test_accumulated_micro_steps_count_as_one_update_and_equal_one_large_batch(
    latents: LatentDataset, tmp_path: Path
) -> None:
    settings = config(accumulate=3, max_steps=4, objective={"timesteps": {"mode": "shared"}})
    run = trainer(latents, tmp_path, settings)
    gradients = []
    task, scale = run.task, 1 / 3
    for micro in range(3):
        turn = run.batch_index(micro)
        assert turn.first_draw(3) == 3 * micro
        total = task.loss(task.model, turn).total
        gradients.append(torch.autograd.grad(total * scale, list(run.parameters.values()), allow_unused=True))
    expected = [sum(part for part in parts if part is not None) for parts in zip(*gradients, strict=True)]
    run.accumulate_gradients()
    for parameter, gradient in zip(run.parameters.values(), expected, strict=True):
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, torch.as_tensor(gradient), atol=1e-6)
    run.run()
    assert run.step == 4
    assert run.batch_index(0).first_draw(3) == 4 * 9


def test_a_changed_config_is_refused_unless_named(latents: LatentDataset, tmp_path: Path) -> None:
    trainer(latents, tmp_path, config()).run(until=2)
    longer = config(max_steps=30, seed=4, log_every=1)
    with pytest.raises(CheckpointError, match="max_steps, seed"):
        trainer(latents, tmp_path, longer).resume()
    changed = trainer(latents, tmp_path, longer)
    changed.resume(allow=("max_steps", "seed"))
    assert changed.step == 2


def test_a_new_run_does_not_overwrite_an_old_one(latents: LatentDataset, tmp_path: Path) -> None:
    trainer(latents, tmp_path, config()).run(until=1)
    with pytest.raises(InputError, match="already holds checkpoints"):
        trainer(latents, tmp_path, config()).run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_cleanly(latents: LatentDataset, tmp_path: Path, number: signal.Signals) -> None:
    class Stop:
        name = "stop"
        every = 3

        def __call__(self, moment: HookContext) -> dict[str, float]:
            if moment.step == 3:
                os.kill(os.getpid(), number)
            return {}

    before = signal.getsignal(number)
    end = trainer(latents, tmp_path, config(), [Stop()]).run()
    assert (end.reason, end.step) == ("interrupted", 3)
    assert latest_checkpoint(tmp_path).name.endswith("00000003")
    assert signal.getsignal(number) == before


def test_keep_last_n_and_leftovers_of_a_killed_save(latents: LatentDataset, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoints" / ".writing-step-00000002-1"
    broken.mkdir(parents=True)
    trainer(latents, tmp_path, config(max_steps=7, checkpoint_every=2, keep_last=2)).run()
    assert [path.name[-1] for path in checkpoint_folders(tmp_path)] == ["6", "7"]
    assert not broken.exists()


def test_weights_that_are_not_finite_are_refused_and_the_older_checkpoint_stays(tmp_path: Path) -> None:
    good = Snapshot(1, {"w": torch.ones(2)}, None, {})
    save_whole_checkpoint(tmp_path, good, keep_last=1)
    with pytest.raises(CheckpointError, match="not finite"):
        save_whole_checkpoint(tmp_path, Snapshot(2, {"w": torch.tensor([1.0, float("nan")])}, None, {}), keep_last=1)
    assert load_snapshot(latest_checkpoint(tmp_path)).step == 1


def test_a_torn_checkpoint_is_named_not_used(tmp_path: Path) -> None:
    path = save_whole_checkpoint(tmp_path, Snapshot(1, {"w": torch.ones(200)}, None, {}), keep_last=1)
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_snapshot(path)


def test_after_training_the_model_holds_the_average_and_a_checkpoint_gives_it_back(
    latents: LatentDataset, tmp_path: Path
) -> None:
    model = tiny_model()
    train_joint(model, latents, config(max_steps=4), tmp_path)
    again = tiny_model(seed=5)
    load_weights(latest_checkpoint(tmp_path), again)
    assert digest(dict(again.named_parameters())) == digest(dict(model.named_parameters()))
    load_weights(latest_checkpoint(tmp_path), again, average=False)
    assert digest(dict(again.named_parameters())) != digest(dict(model.named_parameters()))
    with pytest.raises(CheckpointError, match="does not have"):
        load_weights(latest_checkpoint(tmp_path), model.text)


def test_curves_written_after_the_last_checkpoint_are_dropped_on_resume(latents: LatentDataset, tmp_path: Path) -> None:
    settings = config(log_every=1)
    trainer(latents, tmp_path, settings).run(until=4)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("9,1.0,loss/video,3.0\n5,torn\n")
    resumed = trainer(latents, tmp_path, settings)
    resumed.resume()
    resumed.run(until=6)
    steps = [row[0] for row in read_metrics(tmp_path) if row[2] == "loss/video"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_time_budget_ends_the_run_and_its_cosine_on_time_over_resumes(latents: LatentDataset, tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.25
        return now[0]

    settings = config(max_steps=None, budget_seconds=30.0, log_every=1)
    first = trainer(latents, tmp_path, settings)
    first._clock = clock
    assert first.run(until=5).reason == "paused"
    spent = first.elapsed
    second = trainer(latents, tmp_path, settings)
    second._clock = clock
    second.resume()
    assert second.elapsed == pytest.approx(spent, abs=1.0)
    assert second.run().reason == "finished"
    assert 30 <= second.elapsed < 33
    rates = [row[3] for row in read_metrics(tmp_path) if row[2] == "update/rate"]
    assert rates[-1] < 0.05
    assert max(rates) > 0.9


def test_the_first_update_has_a_rate_and_the_cosine_falls_to_its_end_once() -> None:
    settings = OptimizerConfig(warmup=4, final=0.1)
    rates = [rate_factor(settings, step, step / 99) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
    assert rate_factor(OptimizerConfig(schedule="linear", final=0.0, warmup=0), 5, 0.25) == 0.75
    assert rate_factor(OptimizerConfig(schedule="constant", warmup=0), 5, 0.9) == 1.0


def test_progress_follows_whichever_end_is_nearer() -> None:
    assert progress(10, 1.0, 100, None) == 0.1
    assert progress(10, 50.0, 100, 60.0) == pytest.approx(50 / 60)
    assert progress(200, 0.0, 100, None) == 1.0


def test_validation_is_repeatable_and_says_what_the_bridge_is_worth(latents: LatentDataset, tmp_path: Path) -> None:
    model = tiny_model(two_experts=True)
    hook = ValidationLoss(model, latent_batches(latents, clips=5, size=2), boundary_ratio=0.9)
    moment = HookContext(0, 0.0, tmp_path)
    values = hook(moment)
    assert values == hook(moment)
    assert values == pytest.approx(ValidationLoss(model, latent_batches(latents, 5, 5), 0.9)(moment), rel=1e-4)
    assert {"val/high/video/0.97", "val/low/audio/0.1", "val/video/no_bridge", "val/audio"} <= set(values)
    assert 1.0 < values["val/video"] < 3.0


def test_tensorboard_is_written_when_asked_for(latents: LatentDataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trainer(latents, tmp_path, config(max_steps=2, tensorboard=True, log_every=1)).run()
    assert list((tmp_path / "tensorboard").glob("events*"))
