"""Sync in a distillation's validation: what the embedded model's readers say, and nothing where they know nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.evaluation_clips import ball
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.evaluation.world_reader import WorldReader
from phonofilm.training.loop.metrics_log import read_metrics


def test_events_in_time_are_within_a_frame_and_displaced_ones_are_not() -> None:
    clip = ball(4, num_frames=49, size=64)
    assert clip.audio is not None
    figures = WorldReader()([clip, clip])
    assert figures == {"within": 1.0, "misses": 0.0, "extras": pytest.approx(0.0)}
    late = replace(clip, audio=np.roll(clip.audio, 3200, axis=1))
    assert WorldReader()([late])["within"] < 0.5


def test_of_other_pictures_nothing_is_said() -> None:
    clip = ball(4, num_frames=49, size=64)
    assert WorldReader()([replace(clip, frames=np.zeros_like(clip.frames))]) == {}
    assert [WorldReader().fits(*size) for size in ((64, 64), (352, 640), (64, 48), (1024, 1024))] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.slow
def test_a_distillation_of_the_embedded_model_logs_sync_of_student_and_teacher(tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text('A red face says "ah" in a high voice.\n')
    small = [
        "distill.stored={}",
        "distill.substeps=1",
        "max_steps=1",
        "batch_size=1",
        "accumulate=1",
        "samples.every=0",
    ]
    watched = ["validation={every: 1, clips: 1}", "device=cpu", "lora={high: {rank: 1, alpha: 1}}", "experts=high"]
    words = ["train", "run", "--config", "distill_nano", "-o", str(tmp_path / "run"), f"distill.captions={captions}"]
    done = CliRunner().invoke(app, [*words, *small, *watched])
    assert done.exit_code == 0, done.output
    names = {name for _, _, name, _ in read_metrics(tmp_path / "run")}
    assert {"val/sync/within", "val/sync/misses", "val/sync/teacher/within", "val/video"} <= names
