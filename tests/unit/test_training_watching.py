"""Curves, boards, bars; the best weights per modality and the end of one that no longer gets better."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.test_training_trainer import config, trainer
from tests.unit.training_helpers import write_latents

from phonofilm.cli.training_progress import TrainingBar, TrainingLines, report_training
from phonofilm.errors import MissingExtraError
from phonofilm.evaluation.training_curves import draw_curves
from phonofilm.media import Clip
from phonofilm.training.loop.boards import open_boards
from phonofilm.training.loop.early_stopping import Validations
from phonofilm.training.loop.metrics_log import MetricsLog, read_metrics
from phonofilm.training.loop.training_state import TrainingProgress
from phonofilm.training.task.interface import HookContext
from phonofilm.training.task.latent_dataset import LatentDataset


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> LatentDataset:
    torch.set_num_threads(1)
    return write_latents(tmp_path_factory.mktemp("latents"))


@pytest.fixture
def clip() -> Clip:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)
    return Clip(frames, 24, np.zeros((1, 10000), np.float32), 48000)


class Scores:
    """A validation that says what it was told to."""

    name, every = "validation", 1

    def __init__(self, of: Callable[[int], dict[str, float]]) -> None:
        self.of = of

    def __call__(self, moment: HookContext) -> dict[str, float]:
        return self.of(moment.step)


def test_each_modality_keeps_its_best_weights_apart_from_the_last_ones(latents: LatentDataset, tmp_path: Path) -> None:
    run = trainer(latents, tmp_path, config(max_steps=6, checkpoint_every=1, keep_last=1))
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def scores(step: int) -> dict[str, float]:
        seen[step] = {name: p.detach().clone() for name, p in run.parameters.items()}
        video, audio = 1 - 0.1 * min(step, 5), abs(step - 2) / 10
        return {"val/video": video, "val/audio": audio, "val/mean": video + audio}

    run.hooks = [Scores(scores)]
    run.run()
    for name, step in (("best-video", 5), ("best-audio", 2), ("best", 2)):
        assert json.loads((tmp_path / name / "best.json").read_text())["step"] == step
        kept = load_file(tmp_path / name / "model.safetensors")
        assert all(torch.equal(kept[weight], value) for weight, value in seen[step].items())


def test_a_modality_that_no_longer_gets_better_stops_learning_and_the_other_goes_on(
    latents: LatentDataset, tmp_path: Path
) -> None:
    run = trainer(latents, tmp_path, config(max_steps=6, patience={"audio": 2}))
    towers: list[tuple[torch.Tensor, torch.Tensor]] = []
    names = ("high.audio.blocks.0.ffn.0.weight", "high.video.blocks.0.ffn.0.weight")

    def scores(step: int) -> dict[str, float]:
        audio, video = (run.parameters[name].detach().clone() for name in names)
        towers.append((audio, video))
        return {"val/audio": 1.0, "val/video": 1.0 / (step + 1), "val/mean": 1.0}

    run.hooks = [Scores(scores)]
    run.config = run.config.model_copy(update={"ema_decay": None})
    run.average = None
    assert run.run().step == 6
    assert run.halted == {"audio"}
    moved = [[not torch.equal(a[i], b[i]) for a, b in itertools.pairwise(towers[2:])] for i in range(2)]
    assert not any(moved[0])
    assert all(moved[1])


def test_the_run_ends_when_no_modality_gets_better_and_a_resume_knows(latents: LatentDataset, tmp_path: Path) -> None:
    settings = config(max_steps=20, patience={"audio": 2, "video": 3})
    hooks = [Scores(lambda step: {"val/video": 1.0, "val/audio": 1.0, "val/mean": 1.0})]
    end = trainer(latents, tmp_path, settings, hooks).run()
    assert (end.reason, end.step) == ("finished", 3)
    again = trainer(latents, tmp_path, settings, hooks)
    again.resume()
    assert again.run().step == 3


def test_what_is_best_is_read_from_the_curves_alone() -> None:
    rows = [(step, 0.0, "val/audio", value) for step, value in ((0, 1.0), (1, 0.5), (2, 0.6), (3, 0.55))]
    straight = Validations((), {"audio": 2})
    new = [straight.add(step, {"val/audio": value}) for step, _, _, value in rows]
    assert [bool(best) for best in new] == [True, True, False, False]
    resumed = Validations(rows[:3], {"audio": 2})
    assert resumed.halted == set()
    assert resumed.add(3, {"val/audio": 0.55}) == {}
    assert resumed.halted == straight.halted == {"audio"}
    assert resumed.add(4, {"val/audio": 0.5000000001}) == {}
    assert resumed.add(5, {"val/audio": 0.4}) == {"best-audio": 0.4}


def test_tensorboard_shows_scalars_moving_pictures_and_sound(clip: Clip, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = MetricsLog(tmp_path, 0, open_boards(tmp_path, 0, True, "off"))
    log.write(3, 1.0, {"loss/video": 0.5, "sample/ball": clip})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("loss/video")[0].value == 0.5
    assert events.Images("sample/ball")[0].encoded_image_string.startswith(b"GIF8")
    assert events.Audio("sample/ball")[0].sample_rate == 48000
    assert [row[2] for row in read_metrics(tmp_path)] == ["loss/video"]


def test_wandb_writes_a_run_without_a_network(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    log = MetricsLog(tmp_path, 0, open_boards(tmp_path, 0, False, "offline"))
    log.write(0, 1.0, {"loss/video": 0.5, "sample/ball": clip})
    log.close()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))
    assert list(run.rglob("*.mp4"))


def test_without_wandb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"phonofilm\[wandb\]"):
        open_boards(tmp_path, 0, False, "offline")


def test_progress_is_told_after_every_update_with_pace_and_time_left(latents: LatentDataset, tmp_path: Path) -> None:
    ticks: Iterator[int] = iter(range(10_000))
    run = trainer(latents, tmp_path, config(max_steps=4, log_every=2))
    run._clock = lambda: float(next(ticks))
    told: list[TrainingProgress] = []
    run._watch = told.append
    run.run()
    assert [now.step for now in told] == [1, 2, 3, 4]
    assert [now.fresh for now in told] == [False, True, False, True]
    assert set(told[1].losses) == set(told[2].losses) == {"video", "audio"}
    assert told[1].seconds_left > 0
    assert told[3].seconds_left == 0
    assert told[0].total == 4


NOW = TrainingProgress(20, 100, 0.2, 1.5, 120.0, {"video": 0.25, "audio": 0.125}, fresh=True)


def test_without_a_terminal_progress_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(report_training(terminal=False), TrainingLines)
    with TrainingLines() as report:
        report(NOW)
        report(TrainingProgress(21, 100, 0.21, 1.5, 118.0, NOW.losses))
    assert capsys.readouterr().err == "step 20/100  video 0.2500  audio 0.1250  1.5 s/step  2 min 0 s left\n"


def test_on_a_terminal_progress_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    bar = report_training(terminal=True)
    assert isinstance(bar, TrainingBar)
    with bar:
        bar(NOW)
    shown = capsys.readouterr().err
    assert "20/100" in shown
    assert "audio 0.1250" in shown


def test_the_curves_of_both_modalities_and_of_validation_become_a_picture(tmp_path: Path) -> None:
    image: Any = pytest.importorskip("PIL.Image")
    log = MetricsLog(tmp_path, 0)
    assert draw_curves(tmp_path) is None
    for step in range(3):
        log.write(step, 1.0, {"loss/video": 1 / (step + 1), "loss/audio": 0.5, "val/video": 0.7, "update/rate": 1.0})
    path = draw_curves(tmp_path)
    assert path == tmp_path / "curves.png"
    assert image.open(path).width > 300
