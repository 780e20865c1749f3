"""Distilling to few steps: gradients as derived by hand, the teacher untouched, exact resume, what the files say."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import writable_copy
from tests.unit.checkpoints import WEIGHTS, edit_weights
from tests.unit.finetune_helpers import ALL_PARTS, Ground
from tests.unit.process_helpers import SETTINGS, assert_close, facts, learnt, run_processes
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.reading import read_lora
from phonofilm.lora.target_layers import empty_components
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.config_check import FEW_STEPS_KEY
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layout import read_layout
from phonofilm.pipeline.few_steps import FewSteps, few_step_settings, few_steps_from
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.checkpointing.run_folder import latest_checkpoint
from phonofilm.training.checkpointing.snapshot import load_snapshot
from phonofilm.training.config.config_files import read_config
from phonofilm.training.finetune import finetune, load_model
from phonofilm.training.finetune_hooks import finetune_dry_run
from phonofilm.training.loop.distill_validation import TeacherDistance
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.adapter_switch import adapters_off
from phonofilm.training.task.distill_task import DistillTask
from phonofilm.training.task.interface import BatchIndex, HookContext
from phonofilm.training.task.trajectories import Grid

DISTILL: dict[str, Any] = {
    "distill": {"steps": 4, "substeps": 2, "guidance_scale": 2.0, "audio_guidance_scale": 3.0, "modality_scale": 1.5},
    "accumulate": 2,
    "max_steps": 4,
    "objective": {"first_frame_dropout": 0.5, "audio_weight": 0.7},
}
STORED = DISTILL["distill"] | {"stored": {"updates": 2, "trajectories": 4, "substeps": 2}}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


def trainer_of(ground: Ground, output: Path, **changes: Any) -> tuple[Trainer, DistillTask]:
    trainer = ground.trainer(output, **{**DISTILL, **changes})
    assert isinstance(trainer.task, DistillTask)
    return trainer, trainer.task


def task_of(ground: Ground, **changes: Any) -> DistillTask:
    task = ground.task(**{**DISTILL, **changes})
    assert isinstance(task, DistillTask)
    return task


def with_random_adapters(trainer: Trainer, scale: float = 0.02) -> None:
    """Adapters that change something, as after some training."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in trainer.parameters.items():
        if "lora_B" in name:
            parameter.data.normal_(0, scale, generator=generator)


# Gradients, derived by hand


class ByHand:
    """The same distillation written down plainly, on copies of the networks with the adapters merged into weights."""

    def __init__(self, ground: Ground, trainer: Trainer) -> None:
        layout = read_layout(ground.checkpoint)
        self.teacher = load_model(trainer.task.config, layout).eval().requires_grad_(False)  # type: ignore[attr-defined]
        self.student = load_model(trainer.task.config, layout).eval()  # type: ignore[attr-defined]
        self.halves = {}
        for name, down in trainer.parameters.items():
            if "lora_A" in name:
                up = trainer.parameters[name.replace("lora_A", "lora_B")]
                path = name.partition(".lora_A")[0] + ".weight"
                weight = self.student.get_parameter(path)
                weight.data += up.data @ down.data  # alpha 4 over rank 4
                self.halves[path] = (name, down.data, name.replace("lora_A", "lora_B"), up.data)

    def velocity(
        self, who: nn.Module, low: bool, x: Sequence[Tensor], t: Sequence[float], batch: Any, text: str
    ) -> Any:
        denoiser: JointDenoiser = who.low if low else who.high  # type: ignore[assignment]
        prompt = {one.name: prompts for one, prompts in batch.prompts.items()}[text]
        padded = torch.zeros(x[0].shape[0], 512, prompt.embeds.shape[2])
        padded[:, : prompt.embeds.shape[1]] = prompt.embeds
        times = [torch.full((x[0].shape[0],), value) for value in t]
        bridge = 0.0 if text == "NEGATIVE_ALONE" else 1.0
        out = denoiser(
            torch.cat([x[0], batch.condition], 1), x[1], *times, padded, batch.frame_rate, bridge_scale=bridge
        )
        return out.video, out.audio


def test_gradients_are_those_of_a_plain_derivation(ground: Ground, tmp_path: Path) -> None:
    trainer, task = trainer_of(ground, tmp_path)
    with_random_adapters(trainer)
    hand = ByHand(ground, trainer)
    step = next(step for step in range(9) if task.turns.at(step, 1).segment == 2)
    index = BatchIndex(step, micro=1, micro_steps=2, rank=0, processes=1, seed=0)
    loss = task.loss(task.model, index)
    loss.total.backward()

    scheduler = FlowMatchPairScheduler(**task.layout.scheduler_config)
    times, sigmas = scheduler.pairs(4)[:, 0], [float(scheduler.sigma_of(t)) for t in scheduler.pairs(4)[:, 0]] + [0.0]
    batch, noise = task._given(index.first_draw(2), torch.device("cpu"), "none")
    x = [noise.video, noise.audio]
    for i in range(2):  # the student's own way to its third step: one step of the high expert, one of the low
        with torch.no_grad():
            v = hand.velocity(hand.student, i > 0, x, [float(times[i])] * 2, batch, "PROMPT")
        x = [a + b * (sigmas[i + 1] - sigmas[i]) for a, b in zip(x, v, strict=True)]
    y = x
    shift = scheduler.config["shift"]
    first, last = (s / (shift - (shift - 1) * s) for s in (sigmas[2], sigmas[3]))
    middle = shift * (first + last) / 2 / (1 + (shift - 1) * (first + last) / 2)
    for time, sigma, following in ((float(times[2]), sigmas[2], middle), (1000 * middle, middle, sigmas[3])):
        with torch.no_grad():
            low = time < 900
            prompt, negative, alone = (
                hand.velocity(hand.teacher, low, y, [time] * 2, batch, name)
                for name in ("PROMPT", "NEGATIVE", "NEGATIVE_ALONE")
            )
        # The paper's equation 6, with s_B = 1.5 and s_T = 2 for the picture, 3 for the sound.
        v = [
            n0 + 1.5 * (n1 - n0) + s * (p - n1)
            for n0, n1, p, s in zip(alone, negative, prompt, (2.0, 3.0), strict=True)
        ]
        y = [a + b * (following - sigma) for a, b in zip(y, v, strict=True)]
    target = [(b - a) / (sigmas[3] - sigmas[2]) for a, b in zip(x, y, strict=True)]
    v = hand.velocity(hand.student, True, x, [float(times[2])] * 2, batch, "PROMPT")
    total = ((v[0] - target[0]) ** 2).mean() + 0.7 * ((v[1] - target[1]) ** 2).mean()
    total.backward()

    assert loss.total.item() == pytest.approx(total.item(), rel=1e-4)
    compared = 0
    for path, (down_name, down, up_name, up) in hand.halves.items():
        gradient = hand.student.get_parameter(path).grad
        found = trainer.parameters[down_name].grad, trainer.parameters[up_name].grad
        if gradient is None:
            assert found == (None, None), path
            continue
        for mine, theirs in zip(found, (up.T @ gradient, gradient @ down.T), strict=True):
            assert mine is not None
            assert float((mine - theirs).norm() / (theirs.norm() + 1e-9)) < 2e-3, path
            compared += 1
    assert compared > 60


# The teacher


def test_the_teacher_is_the_base_model_to_the_last_bit_and_stays_so(ground: Ground, tmp_path: Path) -> None:
    trainer, task = trainer_of(ground, tmp_path)
    base = load_model(task.config, task.layout)
    kept = {name.replace(".base_layer", ""): p for name, p in task.model.named_parameters() if "lora_" not in name}
    trainer.run(2)
    for name, parameter in base.named_parameters():
        assert torch.equal(kept[name], parameter), name
    with_random_adapters(trainer)
    batch, noise = task._given(0, torch.device("cpu"), "none")
    step = task.steps[2]
    taught = task.teacher.rollout(batch, noise, [step])
    task.model = base.eval()
    plain = DistillTask._teacher(task, task.layout, 1000).rollout(batch, noise, [step])
    assert torch.equal(taught.video, plain.video)
    assert torch.equal(taught.audio, plain.audio)


def test_adapters_that_are_off_come_back_on(ground: Ground, tmp_path: Path) -> None:
    trainer, task = trainer_of(ground, tmp_path)
    with_random_adapters(trainer)
    batch, noise = task._given(0, torch.device("cpu"), "none")
    before = task.student.rollout(batch, noise, task.steps[:1])
    with adapters_off(task.model):
        off = task.student.rollout(batch, noise, task.steps[:1])
    after = task.student.rollout(batch, noise, task.steps[:1])
    assert torch.equal(before.video, after.video)
    assert not torch.equal(before.video, off.video)


def test_whole_weights_learn_from_a_copy_that_stays(ground: Ground, tmp_path: Path) -> None:
    full = {"lora": None, "full": {part: {} for part in ALL_PARTS}, "optimizer": {"lr": 1e-3}}
    task = task_of(ground, **full)
    (task.layout.folder / STUDENT_FILE).write_bytes(b"the old student")
    batch, noise = task._given(0, torch.device("cpu"), "none")
    before = task.teacher.rollout(batch, noise, task.steps[:1])
    finetune(task, tmp_path / "run")
    after = task.teacher.rollout(batch, noise, task.steps[:1])
    assert torch.equal(before.video, after.video)
    assert not torch.equal(before.video, task.student.rollout(batch, noise, task.steps[:1]).video)
    assert not (tmp_path / "run" / "checkpoint" / STUDENT_FILE).exists()
    index = json.loads((tmp_path / "run" / "checkpoint" / "model_index.json").read_text())
    assert few_steps_from(index[FEW_STEPS_KEY], "test") == task.few_steps
    assert FEW_STEPS_KEY not in json.loads((ground.checkpoint / "model_index.json").read_text())
    assert read_layout(tmp_path / "run" / "checkpoint").scalars.few_steps == index[FEW_STEPS_KEY]


# Runs


def test_resume_is_exact_over_the_warm_start_and_after_it(ground: Ground, tmp_path: Path) -> None:
    told = {"distill": STORED, "objective": {"hold_video": 0.3, "hold_audio": 0.3}}
    for name, stops in (("straight", (None,)), ("halves", (3, None))):
        for until in stops:
            finetune(task_of(ground, **told), tmp_path / name, resume=True, until=until)
    straight, halves = (load_snapshot(latest_checkpoint(tmp_path / name)) for name in ("straight", "halves"))
    for one in (straight, halves):
        one.state.pop("elapsed")
        one.state.pop("random")  # the process's own, from which a distillation draws nothing
    assert digest([straight.weights, straight.average, straight.state]) == digest(
        [halves.weights, halves.average, halves.state]
    )
    assert len(list((tmp_path / "straight" / "states").rglob("*.safetensors"))) == 2


def states_folder(ground: Ground, output: Path, checkpoint: Path | None = None, **changes: Any) -> Path:
    """Where the states of a warm start lie, of which one group is made."""
    stored = {"updates": 1, "trajectories": 2, "substeps": 1}
    told = {"model": str(checkpoint or ground.checkpoint), "distill": {**DISTILL["distill"], "stored": stored}}
    for section, values in changes.items():
        told[section] = {**told[section], **values} if isinstance(values, dict) else values
    task = task_of(ground, **told)
    task.prepare(torch.device("cpu"))
    task.before_training(output, 0)
    assert task.stored is not None
    return task.stored.folder


def test_states_of_another_teacher_are_not_learnt_from(ground: Ground, tmp_path: Path) -> None:
    same = writable_copy(ground.checkpoint, tmp_path / "same")
    other = writable_copy(ground.checkpoint, tmp_path / "other")
    edit_weights(other / "audio_dit" / WEIGHTS, lambda state: [tensor.mul_(1.01) for tensor in state.values()])
    found = [
        states_folder(ground, tmp_path, **told)
        for told in (
            {},
            {"distill": {"negative_prompt": "noise"}},
            {"base_dtype": "bfloat16"},
            {"precision": "bf16"},
            {"quantize": "int8"},
            {"distill": {"guidance_scale": 2.5}},
            {"checkpoint": other},
        )
    ]
    assert len(set(found)) == len(found)
    assert states_folder(ground, tmp_path, same) == found[0]


def test_states_that_cannot_be_written_are_an_error_of_the_disk(ground: Ground, tmp_path: Path) -> None:
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a file may not grow beyond it: writing fails
    try:
        with pytest.raises(CheckpointError, match=r"warm start cannot be written to .*GB are free there\. Make room"):
            states_folder(ground, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list((tmp_path / "states").rglob("*.safetensors"))


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "other"])
def test_damaged_states_are_not_learnt_from(ground: Ground, tmp_path: Path, damage: str) -> None:
    told = {"distill": STORED | {"stored": {"updates": 1, "trajectories": 2, "substeps": 1}}, "max_steps": 1}
    trainer, task = trainer_of(ground, tmp_path, **told)
    task.before_training(tmp_path, 0)
    (file,) = (tmp_path / "states").rglob("*.safetensors")
    whole = bytearray(file.read_bytes())
    whole[-20] ^= 1
    kept = {"empty": b"", "truncated": bytes(whole[:-100]), "flipped": bytes(whole)}
    if damage == "other":
        save_file(load_file(file), file)
    else:
        file.write_bytes(kept[damage])
    with pytest.raises(CheckpointError, match=r"000000\.safetensors .*delete it and go on with --resume"):
        trainer.run()


def test_the_warm_start_is_made_only_where_updates_of_it_are_to_come(ground: Ground, tmp_path: Path) -> None:
    told: dict[str, Any] = {"distill": STORED}
    finetune(task_of(ground, **told), tmp_path, until=3)
    shutil.rmtree(tmp_path / "states")
    finetune(task_of(ground, **told), tmp_path, resume=True)
    assert not (tmp_path / "states").exists()
    task = task_of(ground, **told, max_steps=1)
    task.before_training(tmp_path, 1)  # its run is finished
    assert task.stored is None


def test_the_dry_run_counts_the_warm_start(ground: Ground, tmp_path: Path) -> None:
    trainer, task = trainer_of(ground, tmp_path, distill=STORED)
    estimate = finetune_dry_run(task, trainer)
    cost = estimate.warm_start
    assert cost is not None
    assert cost.clips == 4
    assert cost.seconds > 0
    assert estimate.total_seconds > estimate.count_updates() * estimate.seconds_per_update + cost.seconds * 0.99
    assert dict(estimate.lines())["warm start"].startswith("4 clips of the teacher, ")
    task.before_training(tmp_path, 0)
    written = sum(file.stat().st_size for file in (tmp_path / "states").rglob("*.safetensors"))
    assert cost.files == pytest.approx(written, rel=0.05)
    assert finetune_dry_run(task, trainer).warm_start is None  # it is made


@pytest.mark.slow
def test_what_is_learnt_comes_nearer_to_the_teacher(ground: Ground, tmp_path: Path) -> None:
    told = {"max_steps": 30, "optimizer": {"lr": 0.02, "warmup": 0}, "ema_decay": None}
    trainer, task = trainer_of(ground, tmp_path, **told)
    validation = TeacherDistance(task, task.data, 2, every=100)
    with trainer.undisturbed():
        before = validation(HookContext(0, 0.0, tmp_path))
    trainer.run()
    with trainer.undisturbed():
        after = validation(HookContext(30, 0.0, tmp_path))
    assert after["val/mean"] < before["val/mean"]


@pytest.mark.slow
def test_streamed_weights_learn_what_resident_ones_learn(ground: Ground, tmp_path: Path) -> None:
    told = {"gradient_checkpointing": True, "max_steps": 2}
    weights = []
    for mode in ("accelerate", "low_resource"):
        trainer, _ = trainer_of(ground, tmp_path / mode, mode=mode, **told)
        trainer.run()
        weights.append({name: parameter.detach() for name, parameter in trainer.parameters.items()})
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], rtol=1e-4, atol=1e-6), name


def test_captions_and_first_frames_are_enough(ground: Ground, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 32), "red").save(tmp_path / "first.png")
    rows = [{"caption": "one"}, {"caption": "two", "image": "first.png"}]
    rows.append({"caption": "three", "image": "first.png", "last_image": "first.png"})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = {"distill": DISTILL["distill"] | {"captions": str(tmp_path / "captions.jsonl")}}
    told["data"] = {"cache": str(tmp_path / "cache"), "buckets": ["32x32x5"]}
    trainer, task = trainer_of(ground, tmp_path / "run", **told, max_steps=1)
    trainer.run()
    given = task.data.batch_of("32x32x5", task.clips.buckets["32x32x5"], torch.device("cpu"))
    masks = given.condition[:, :4]
    assert [float(mask.sum()) / mask[0, 0].numel() for mask in masks] == [4.0, 4.0, 5.0]
    assert not torch.equal(given.condition[0, 4:], given.condition[1, 4:])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "bad.jsonl").write_text('{"caption": "a"}\n\n{"caption": "b", "image": "bad.png"}\n')
    bad = {"distill": DISTILL["distill"] | {"captions": str(tmp_path / "bad.jsonl")}}
    with pytest.raises(InputError, match=r"bad\.jsonl, line 3: .*bad\.png"):
        ground.task(**{**DISTILL, **told, **bad})
    with pytest.raises(InputError, match="captions and no clips"):
        ground.task(data={"cache": str(tmp_path / "cache")})
    with pytest.raises(InputError, match="hold_video and hold_audio hold a clip's own track"):
        ground.task(**{**DISTILL, **told, "objective": {"hold_audio": 0.5}})


# What is said


def test_a_distilled_lora_says_how_it_is_sampled(ground: Ground, tmp_path: Path) -> None:
    task = task_of(ground, max_steps=2)
    result = finetune(task, tmp_path).result
    assert result is not None
    lora = read_lora(result, empty_components(task.layout))
    assert few_steps_from(lora.metadata[FEW_STEPS_KEY], "test") == task.few_steps
    assert task.few_steps.steps == 4
    assert task.few_steps.guidance_scale == task.few_steps.modality_scale == 1.0


@pytest.mark.parametrize(("shift", "count", "high"), [(3.0, 4, 1), (5.0, 4, 1), (5.0, 8, 2), (5.0, 2, 1), (3.0, 1, 1)])
def test_the_step_in_which_the_teacher_changes_experts_is_the_low_ones(shift: float, count: int, high: int) -> None:
    scheduler = FlowMatchPairScheduler(shift=shift, extra_one_step=True)
    settings = few_step_settings(scheduler, count, shift, shift, 0.9)
    levels = [step.video.timestep / 1000 for step in scheduler.steps(count, shift, shift)]
    assert sum(level >= settings.boundary_ratio for level in levels) == high
    assert min(abs(level - settings.boundary_ratio) for level in levels) > 1e-3


def test_teacher_steps_lie_on_the_teachers_own_finer_grid() -> None:
    scheduler = FlowMatchPairScheduler(shift=3.0, extra_one_step=True)
    grid, found = Grid(3.0, 3.0, 1000), []
    for step in scheduler.steps(4):
        found += [one.video.sigma for one in grid.substeps(step, 6)]
    fine = [step.video.sigma for step in scheduler.steps(24)]
    assert found == pytest.approx(fine, abs=8e-3)  # the last ones go to 0, and the sampler's to the smallest sigma


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "with steps"), ('{"steps": 4}', "with steps"), ("{", "no JSON"), (None, "no few_steps")],
)
def test_broken_settings_in_a_file_are_refused(content: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        few_steps_from(content, "file")
    whole = json.loads(FewSteps(4, 3.0, 3.0, 0.95).as_json())
    with pytest.raises(CheckpointError, match="expected a number from 0 to 1"):
        few_steps_from(whole | {"boundary_ratio": 7}, "file")
    for name in whole:
        with pytest.raises(CheckpointError, match=rf"file \(few_steps\) has {name} null; give it a number"):
            few_steps_from(whole | {name: None}, "file")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.sets=[]"], "nothing to distill from"),
        (["distill.captions=x.txt", "data.buckets=[32x32x5, 64x64x5]"], "captions are learnt at one size"),
        (["lora.dropout=0.1", "data.cache=x"], "lora.dropout"),
        (["objective.caption_dropout=0.2", "data.cache=x"], "has no guidance"),
        (["turn_updates=3", "data.cache=x"], "from one micro-step to the next"),
        (["distill.stored.trajectories=7", "distill.stored.updates=0", "data.cache=x"], "would be ignored"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config("distill", settings)


def test_an_expert_without_a_step_is_refused(ground: Ground) -> None:
    with pytest.raises(InputError, match="low would learn nothing"):
        ground.task(**{**DISTILL, "distill": {"steps": 1}})


@pytest.mark.slow
def test_two_processes_learn_what_one_does(ground: Ground, tmp_path: Path) -> None:
    told = {**SETTINGS, **DISTILL, "objective": {"first_frame_dropout": 0.5}, "max_steps": 3}
    run_processes(2, [{"folder": "two", "config": {**told, "batch_size": 1}}], ground, tmp_path)
    assert facts(tmp_path, "two")[0]["state"] == facts(tmp_path, "two")[1]["state"]
    ground.trainer(tmp_path / "one", **{**told, "batch_size": 2}).run()
    assert_close(learnt(tmp_path / "two"), learnt(tmp_path / "one"))
