"""A training killed at random moments, without any chance to clean up, always resumes and ends where it would have."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.unit.finetune_helpers import ALL_PARTS, Ground, state_hash

from phonofilm.lora.reading import read_lora
from phonofilm.training.checkpointing.run_folder import checkpoint_folders
from phonofilm.training.checkpointing.snapshot import load_snapshot
from phonofilm.training.loop.trainer import Trainer

UPDATES = 40


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


def trainer(ground: Ground, folder: Path) -> Trainer:
    # A checkpoint after every update: most of the time is spent in writing one.
    lora = {part: {"rank": 2} for part in ALL_PARTS}
    run = ground.trainer(folder, max_steps=UPDATES, checkpoint_every=1, batch_size=1, lora=lora)
    if checkpoint_folders(folder):
        run.resume()
    return run


def train(ground: Ground, folder: Path) -> None:
    run = trainer(ground, folder)
    (folder / "started").touch()
    run.run()


def kill_one(ground: Ground, folder: Path, moment: float) -> int:
    """Start a run, kill it `moment` seconds after it began to train; the update of the newest checkpoint, 0 if none."""
    (folder / "started").unlink(missing_ok=True)
    process = multiprocessing.get_context("fork").Process(target=train, args=(ground, folder))
    process.start()
    while process.is_alive() and not (folder / "started").exists():
        time.sleep(0.005)
    time.sleep(moment)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = checkpoint_folders(folder)
    for path in found:
        assert load_snapshot(path).step == int(path.name[-8:])
        if (path / "lora.safetensors").exists():
            read_lora(path / "lora.safetensors")
    return int(found[-1].name[-8:]) if found else 0


def killed_again_and_again(ground: Ground, folder: Path, kills: int) -> None:
    straight = trainer(ground, folder / "straight")
    straight.run()
    killed = folder / "killed"
    killed.mkdir()
    moments, reached = random.Random(5), 0
    for _ in range(kills):
        now = kill_one(ground, killed, moments.uniform(0.0, 0.3))
        assert now >= reached
        reached = now
    run = trainer(ground, killed)
    assert run.step == reached
    run.run()
    assert state_hash(run) == state_hash(straight)
    assert not list((killed / "checkpoints").glob(".writing-*"))


def test_three_kills_lose_nothing(ground: Ground, tmp_path: Path) -> None:
    killed_again_and_again(ground, tmp_path, 3)


@pytest.mark.slow
def test_twenty_kills_lose_nothing(ground: Ground, tmp_path: Path) -> None:
    killed_again_and_again(ground, tmp_path, 20)
