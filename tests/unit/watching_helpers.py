"""A fine-tuning of the golden checkpoint on two made-up clips of 16x16 and 5 frames, for the tests of what looks on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.checkpoints import GOLDEN

from phonofilm.media import Clip, save_clip
from phonofilm.training.config.finetune_config import FinetuneConfig
from phonofilm.training.finetune import prepare_finetune
from phonofilm.training.task.finetune_task import FinetuneTask


def write_clips(folder: Path, count: int = 2) -> Path:
    generator = np.random.default_rng(3)
    for number in range(count):
        frames = generator.integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)
        sound = 0.3 * np.sin(np.arange(10000) * 0.05 * (number + 1), dtype=np.float32)[None]
        save_clip(Clip(frames, 24, sound, 48000), folder / f"clip{number}.mp4")
        (folder / f"clip{number}.txt").write_text(f"a clip of colour {number}")
    return folder


def config(clips: Path, **changes: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {
        "model": str(GOLDEN),
        "data": {"sets": [{"path": str(clips)}], "buckets": ["16x16x5"]},
        "lora": {"high": {"rank": 2}, "low": {"rank": 2}, "audio": {"rank": 2}, "bridge": {"rank": 2}},
        "batch_size": 1,
        "max_steps": 4,
        "device": "cpu",
        "checkpoint_every": 0,
        "log_every": 2,
        "gradient_checkpointing": False,
        "optimizer": {"warmup": 0, "lr": 1e-3},
        "samples": {"every": 2, "steps": 2, "guidance_scale": 1.0, "prompts": [{"prompt": "a red ball", "seed": 5}]},
        "validation": {"every": 2, "clips": 2},
    }
    return FinetuneConfig.model_validate({**settings, **changes})


def task_of(told: FinetuneConfig, output: Path) -> FinetuneTask:
    return prepare_finetune(told, output)
