"""A fine-tuning is refused before anything is loaded, names the clip that spoils it, and keeps a log of what it said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.finetune_helpers import Ground
from torch import nn
from typer.testing import CliRunner, Result

from phonofilm.cli.main import app
from phonofilm.errors import CheckpointError, InputError, PhonofilmError
from phonofilm.training.checkpointing.run_folder import checkpoint_folders
from phonofilm.training.finetune import FinetuneResult, finetune, open_run, prepare_finetune
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.validation import cached_batches
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.interface import BatchIndex, RunEnd, TaskLoss

NO_MODEL = "/no/such/model"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def run(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that stopped after two of three updates."""
    folder = tmp_path_factory.mktemp("run") / "run"
    config = ground.config(max_steps=3)
    with open_run(config, folder) as goes_on:
        assert not goes_on
        finetune(prepare_finetune(config, folder), folder, until=2)
    return folder


def test_checkpoints_in_the_folder_are_seen_before_the_model_is_looked_for(ground: Ground, run: Path) -> None:
    refused = pytest.raises(InputError, match="already holds checkpoints; go on with --resume")
    with refused, open_run(ground.config(model=NO_MODEL), run):
        pass


def test_a_changed_config_is_seen_before_the_model_is_looked_for(ground: Ground, run: Path) -> None:
    changed = ground.config(model=NO_MODEL, max_steps=3, optimizer={"lr": 0.5, "warmup": 2})
    refused = pytest.raises(
        CheckpointError, match=r"config changed since the checkpoint in model, optimizer\.lr; .* \(--allow KEY\)"
    )
    with refused, open_run(changed, run, resume=True):
        pass
    with (
        pytest.raises(InputError, match=r"distill\.stepz is no key of the config.*such as optimizer\.lr"),
        open_run(changed, run, resume=True, allow=("model", "optimizer.lr", "distill.stepz")),
    ):
        pass
    with open_run(changed, run, resume=True, allow=("model", "optimizer.lr")) as goes_on:
        assert goes_on


def test_the_command_refuses_in_one_line_and_leaves_no_lock(ground: Ground, run: Path) -> None:
    result: Result = CliRunner().invoke(
        app,
        ["train", "run", "-o", str(run), "--config", "nano", f"model={NO_MODEL}", f"data.cache={ground.cache}"],
    )
    assert isinstance(result.exception, InputError | SystemExit)
    assert not (run / ".lock").exists()


def test_a_run_that_goes_on_is_not_measured_again_and_says_from_where(ground: Ground, run: Path) -> None:
    measured: list[Trainer] = []
    config = ground.config(max_steps=3)
    with open_run(config, run, resume=True) as goes_on:
        assert goes_on
        end = finetune(prepare_finetune(config, run), run, resume=True, before=measured.append)
    assert (end.run.reason, end.run.step, measured) == ("finished", 3, [])
    log = (run / "log.txt").read_text()
    assert "goes on from" in log
    assert "update 2, " in log
    assert "finished after 3 updates" in log


def test_the_first_start_is_measured(ground: Ground, tmp_path: Path) -> None:
    measured: list[int] = []
    task = ground.task(max_steps=3)
    finetune(task, tmp_path / "new", before=lambda trainer: measured.append(trainer.step), until=1)
    assert measured == [0]


def test_latents_that_are_not_finite_name_their_clip(ground: Ground, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(ground.cache, tmp_path / "cache"))
    clips = CachedClips(cache, seed=0)
    entries = list(clips.index.entries)
    (file,) = cache.rglob(f"{entries[1].latents}*")
    tensors = load_file(file)
    save_file({**tensors, "audio": tensors["audio"] * float("nan")}, file)
    with pytest.raises(InputError, match=f"{entries[1].name}: its audio latents hold values that are not finite"):
        clips.batch_of(entries[1].bucket, entries, torch.device("cpu"))


def test_a_loss_that_is_not_finite_names_its_clips_and_changes_no_weight(ground: Ground, tmp_path: Path) -> None:
    task = ground.task(max_steps=4, batch_size=1, checkpoint_every=1)
    names: list[str] = []
    trainers: list[Trainer] = []
    loss_of = task.loss

    def loss(model: nn.Module, index: BatchIndex) -> TaskLoss:
        found = loss_of(model, index)
        if index.step < 2:
            return found
        names.extend(found.clips)
        return replace(found, total=found.total * float("inf"))

    task.loss = loss  # type: ignore[method-assign]
    stopped = pytest.raises(PhonofilmError, match=r"update 3: the loss of .* is not finite; look at these clips")
    with stopped as failure, open_run(task.config, tmp_path / "run"):
        finetune(task, tmp_path / "run", before=trainers.append)
    assert names[0] in str(failure.value)
    assert f"stopped: {failure.value}" in (tmp_path / "run" / "log.txt").read_text()
    assert checkpoint_folders(tmp_path / "run")[-1].name == "step-00000002"
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trainers[0].parameters.values())


def test_validation_takes_clips_of_every_bucket(ground: Ground) -> None:
    clips = CachedClips(ground.cache, seed=0)
    (name,) = clips.buckets
    first, second, third = clips.buckets[name]
    clips.buckets = {name: [first, second], "other": [replace(third, bucket="other")]}
    clips._whites["other"] = clips._whites[name]
    batches = cached_batches(clips, count=2, size=8)(torch.device("cpu"))
    assert [batch.names for batch in batches] == [(first.name,), (third.name,)]


def test_the_trigger_word_is_in_the_captions_that_are_encoded(ground: Ground, tmp_path: Path) -> None:
    data = {"sets": [{"path": str(ground.clips)}], "cache": str(tmp_path / "cache")}
    task = prepare_finetune(ground.config(data=data, trigger_word="zyx"), tmp_path / "run")
    assert all(entry.caption.startswith("zyx, clip number") for entry in task.clips.index.entries)
    with pytest.raises(InputError, match=r"trigger_word is 'zyx', and .* holds captions without it"):
        prepare_finetune(ground.config(trigger_word="zyx"), tmp_path / "run")


@pytest.mark.parametrize(
    ("reason", "updates", "said"),
    [
        ("finished", 1, "finished after 1 update: lora.safetensors"),
        ("interrupted", 4, "interrupted after 4 updates: lora.safetensors; the same command with --resume goes on"),
    ],
)
def test_the_last_line_of_a_run_says_how_an_unfinished_one_goes_on(reason: Any, updates: int, said: str) -> None:
    assert FinetuneResult(RunEnd(reason, updates, 1.0), Path("lora.safetensors")).line == said
