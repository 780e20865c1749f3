"""Bugs that other trainers of this model have in their loop and their previews, each under its name. Ours must not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.test_training_trainer import config, trainer
from tests.unit.training_helpers import write_latents

from phonofilm.training.loop.metrics_log import read_metrics
from phonofilm.training.task.interface import BatchIndex, HookContext
from phonofilm.training.task.latent_dataset import LatentDataset


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> LatentDataset:
    torch.set_num_threads(1)
    return write_latents(tmp_path_factory.mktemp("latents"))


def test_bug_same_seed_on_every_rank() -> None:
    turns = [BatchIndex(step=3, micro=0, micro_steps=2, rank=rank, processes=2, seed=7) for rank in range(2)]
    noise = [torch.randn(8, generator=turn.generator(1)) for turn in turns]
    assert not torch.equal(*noise)
    assert [turn.first_draw(4) for turn in turns] == [48, 52]  # and other clips, none of them twice


def test_bug_previews_that_swallow_their_errors(
    latents: LatentDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Preview:
        name, every = "samples", 1

        def __call__(self, moment: HookContext) -> dict[str, float]:
            raise torch.OutOfMemoryError("no room for the picture")

    assert trainer(latents, tmp_path, config(max_steps=1), [Preview()]).run().reason == "finished"
    assert "samples failed at update 0" in caplog.text
    assert "no room for the picture" in caplog.text
    assert [row[0] for row in read_metrics(tmp_path) if row[2] == "failed/samples"] == [0, 1]


def test_a_damaged_row_of_a_runs_numbers_hides_no_other(tmp_path: Path) -> None:
    rows = b"step,seconds,name,value\n1,0.5,loss,2.0\n\xff\xfe,\xff,loss,1\n2,0.9,loss,1.5\n3,1.2,lo"
    (tmp_path / "metrics.csv").write_bytes(rows)
    assert read_metrics(tmp_path) == [(1, 0.5, "loss", 2.0), (2, 0.9, "loss", 1.5)]
