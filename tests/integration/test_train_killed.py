"""A training killed at any moment, without any chance to clean up, always resumes and ends where it would have."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.unit.finetune_helpers import ALL_PARTS, Ground, state_hash

from phonofilm.lora.reading import read_lora
from phonofilm.training.checkpointing.run_folder import checkpoint_folders
from phonofilm.training.checkpointing.snapshot import load_snapshot
from phonofilm.training.loop.trainer import Trainer


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


def trainer(ground: Ground, folder: Path, updates: int) -> Trainer:
    # A checkpoint after every update: most of the time is spent in writing one.
    lora = {part: {"rank": 2} for part in ALL_PARTS}
    run = ground.trainer(folder, max_steps=updates, checkpoint_every=1, batch_size=1, lora=lora)
    if checkpoint_folders(folder):
        run.resume()
    return run


def train(ground: Ground, folder: Path, updates: int, begin: Callable[[], None]) -> None:
    run = trainer(ground, folder, updates)
    begin()
    run.run()


def die_at_operation(home: Path, number: int) -> None:
    """From now on, this process is killed where it would open, rename or make its `number`th file under `home`, or remove one."""
    left = number

    def count(event: str, given: tuple[object, ...]) -> None:
        nonlocal left
        here = event in ("open", "os.rename", "os.mkdir") and str(home) in str(given[0])
        if here or event in ("os.remove", "os.rmdir"):  # which may be given a name alone
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def kill_at_operation(ground: Ground, folder: Path, updates: int, number: int) -> int:
    """Start a run that is killed at one of its file operations."""
    begin = partial(die_at_operation, folder / "checkpoints", number)
    process = multiprocessing.get_context("fork").Process(target=train, args=(ground, folder, updates, begin))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return newest(folder)


def kill_after(ground: Ground, folder: Path, updates: int, seconds: float) -> int:
    """Start a run, kill it so long after it began to train."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    begin = partial(sender.send, 0)
    process = multiprocessing.get_context("fork").Process(target=train, args=(ground, folder, updates, begin))
    process.start()
    sender.close()
    receiver.recv()
    time.sleep(seconds)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return newest(folder)


def newest(folder: Path) -> int:
    """The update of the newest checkpoint, 0 if none; every one of them can be read."""
    found = checkpoint_folders(folder)
    for path in found:
        assert load_snapshot(path).step == int(path.name[-8:])
        if (path / "lora.safetensors").exists():
            read_lora(path / "lora.safetensors")
    return int(found[-1].name[-8:]) if found else 0


def killed_again_and_again(
    ground: Ground, folder: Path, updates: int, kills: list[Callable[[Ground, Path, int], int]]
) -> None:
    straight = trainer(ground, folder / "straight", updates)
    straight.run()
    killed = folder / "killed"
    killed.mkdir()
    reached = 0
    for kill in kills:
        now = kill(ground, killed, updates)
        assert now >= reached
        reached = now
    run = trainer(ground, killed, updates)
    assert run.step == reached
    run.run()
    assert state_hash(run) == state_hash(straight)
    assert not list((killed / "checkpoints").glob(".writing-*"))


def test_kills_at_file_operations_lose_nothing(ground: Ground, tmp_path: Path) -> None:
    numbers = (2, 17, 28, 39)
    killed_again_and_again(ground, tmp_path, 16, [partial(kill_at_operation, number=number) for number in numbers])


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing(ground: Ground, tmp_path: Path) -> None:
    moments = random.Random(5)
    killed_again_and_again(
        ground, tmp_path, 40, [partial(kill_after, seconds=moments.uniform(0.0, 0.3)) for _ in range(20)]
    )
