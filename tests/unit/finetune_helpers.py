"""A small untrained checkpoint of the nano kind, a few clips and their cache, for the fine-tuning tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.test_data_doctor import noise, scene

from phonofilm.media import Clip, save_clip
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.config.config_files import parse_config
from phonofilm.training.config.finetune_config import FinetuneConfig
from phonofilm.training.finetune import prepare_finetune
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.finetune_task import FinetuneTask

ALL_PARTS = {part: {"rank": 4, "alpha": 4} for part in ("high", "low", "audio", "bridge")}


def write_clips(folder: Path, count: int = 3, silent: tuple[int, ...] = (), frames: int = 6) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        wave = None if number in silent else noise(1, 0.4)
        clip = Clip(scene(frames, 32, number), Fraction(24), wave, None if wave is None else 48000)
        save_clip(clip, folder / f"{number}.mp4")
        (folder / f"{number}.txt").write_text(f"clip number {number}")
    return folder


class Ground:
    """A checkpoint folder, a folder of clips and a cache of them, made once for a module's tests."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint, self.clips, self.cache = folder / "model", folder / "clips", folder / "cache"
        tiny_nano_pipeline(32, 5).save_pretrained(self.checkpoint)
        write_clips(self.clips, silent=(2,))
        prepare_finetune(
            self.config(data={"sets": [{"path": str(self.clips)}], "cache": str(self.cache)}), folder / "unused"
        )

    def config(self, **changes: Any) -> FinetuneConfig:
        told: dict[str, Any] = {
            "model": str(self.checkpoint),
            "data": {"cache": str(self.cache)},
            "lora": ALL_PARTS,
            "batch_size": 2,
            "max_steps": 20,
            "device": "cpu",
            "precision": "no",
            "gradient_checkpointing": False,
            "checkpoint_every": 0,
            "ema_decay": 0.9,
            "optimizer": {"lr": 0.01, "warmup": 2},
            **changes,
        }
        return parse_config({key: value for key, value in told.items() if value is not None}, "test")

    def task(self, **changes: Any) -> FinetuneTask:
        return prepare_finetune(self.config(**changes), self.cache)

    def trainer(self, output: Path, **changes: Any) -> Trainer:
        task = self.task(**changes)
        return Trainer(task, task.config, output)


def state_hash(trainer: Trainer) -> str:
    """Of all that a run is, but the time it took."""
    snapshot = trainer.snapshot()
    state = {key: value for key, value in snapshot.state.items() if key != "elapsed"}
    return digest([snapshot.step, snapshot.weights, snapshot.average, state])
