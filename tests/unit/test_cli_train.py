"""`phonofilm train --gpus`: who starts processes, and how a failure of one ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.parallel.rank import launcher_rank
from phonofilm.training.config.training_config import LoopConfig
from phonofilm.training.several_processes import in_processes


def where_it_runs(what: str) -> tuple[str, int]:
    return what, os.getpid()


def test_a_process_of_torchrun_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for gpus in (1, 2):
        assert in_processes(gpus, LoopConfig(max_steps=1), where_it_runs, "here") == ("here", os.getpid())


def test_a_process_of_a_launcher_starts_none_and_refuses_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for gpus in (1, 2):
        rank = launcher_rank(gpus)
        assert rank is not None
        assert rank.world == 2
    with pytest.raises(InputError, match="4 devices were asked for, and 2 ranks were started"):
        launcher_rank(4)


def test_more_gpus_than_there_are_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match="--gpus 3 was given, and PyTorch sees 2"):
        in_processes(3, LoopConfig(max_steps=1), where_it_runs, "nowhere")


def test_a_config_that_is_wrong_starts_no_process(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["train", "--gpus", "2", "-o", f"{tmp_path}/run", "no_such_key=1"])
    assert ended.exit_code == 2
    assert "no_such_key" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_failure_of_one_process_says_why_once_and_ends_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "phonofilm", "train", "--gpus", "2", "-o", f"{tmp_path}/run", "-c", "nano"]
    ended = subprocess.run(
        [*command, f"model={tmp_path}/none", "--data", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count(f"{tmp_path}/none") == 1
    assert "Traceback" not in ended.stderr
