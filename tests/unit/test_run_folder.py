"""One writer per run folder, and checkpoints of which no kill and no full disk leaves half of one."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from phonofilm.errors import CheckpointError, InputError
from phonofilm.training.checkpointing.run_folder import checkpoint_folders, sweep_checkpoints
from phonofilm.training.checkpointing.run_lock import LOCK, run_lock
from phonofilm.training.checkpointing.snapshot import Snapshot
from phonofilm.training.checkpointing.whole_checkpointer import save_whole_checkpoint
from phonofilm.training.loop.run_log import LOG_FILE, run_log


def save(folder: Path, step: int, keep_last: int = 2, size: int = 4) -> Path:
    return save_whole_checkpoint(folder, Snapshot(step, {"w": torch.ones(size)}, None, {}), keep_last)


def test_an_incomplete_checkpoint_does_not_count_and_is_swept(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    (newest / "state.pt").unlink()  # what a kill while it was deleted left before folders were renamed first
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-00000001"]
    sweep_checkpoints(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_sweep_removes_what_was_being_written_or_deleted(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for name in (".writing-step-00000002", ".deleting-step-00000000"):
        (tmp_path / "checkpoints" / name).mkdir()
    sweep_checkpoints(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_replaced_checkpoint_returns_when_its_successor_never_came(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    path.rename(path.with_name(f".replaced-{path.name}"))
    assert not checkpoint_folders(tmp_path)
    sweep_checkpoints(tmp_path)
    assert checkpoint_folders(tmp_path) == [path]


def test_the_same_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    save(tmp_path, 1, size=3)
    path = save(tmp_path, 1, size=5)
    assert checkpoint_folders(tmp_path) == [path]
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == [path.name]


def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    first = save(tmp_path, 1)
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # a file may not grow beyond it: writing fails
    try:
        with pytest.raises(CheckpointError, match=r"update 2 cannot be written to .*keep_last=1.*--resume") as failure:
            save(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(failure.value)
    assert list((tmp_path / "checkpoints").iterdir()) == [first]


def test_a_second_writer_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from phonofilm.training.checkpointing.run_lock import run_lock\n"
    code += f"with run_lock(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    refused = rf"in use: process {other.pid} on {socket.gethostname()} trains there"
    with pytest.raises(InputError, match=refused), run_lock(tmp_path):
        pass
    other.kill()
    other.wait()
    with run_lock(tmp_path):  # killed: its lock is a leftover
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    "left", ["", "{}", json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "started": 0.0})]
)
def test_a_stale_or_unreadable_lock_is_taken_over(tmp_path: Path, left: str) -> None:
    (tmp_path / LOCK).write_text(left)
    os.utime(tmp_path / LOCK, (0, 0))
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_lock_of_a_reused_process_number_is_taken_over(tmp_path: Path) -> None:
    parent = psutil.Process().ppid()
    (tmp_path / LOCK).write_text(json.dumps({"pid": parent, "host": socket.gethostname(), "started": 1.0}))
    with run_lock(tmp_path):
        pass


def test_a_lock_of_another_machine_is_respected(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": 1.0}))
    with pytest.raises(InputError, match=r"process 1 on elsewhere trains there; .*delete .*\.lock"), run_lock(tmp_path):
        pass


def test_a_process_may_enter_its_own_lock_twice(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with run_lock(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


def test_the_run_log_keeps_information_and_leaves_the_logger_as_it_was(tmp_path: Path) -> None:
    logger = logging.getLogger("phonofilm")
    before = (logger.level, list(logger.handlers))
    with run_log(tmp_path):
        logging.getLogger("phonofilm.training").info("update %d", 3)
    assert (logger.level, list(logger.handlers)) == before
    assert (tmp_path / LOG_FILE).read_text().endswith(" update 3\n")


@pytest.mark.parametrize(
    "wrong", [{"pid": "x"}, {"pid": -1}, {"pid": 1.5}, {"pid": 2**70}, {"started": None}, {"started": "x"}]
)
def test_a_lock_of_wrong_values_is_a_leftover(wrong: dict[str, object], tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname(), "started": 0.0} | wrong))
    os.utime(lock, (1, 1))
    with run_lock(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
