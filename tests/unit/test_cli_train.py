"""`phonofilm train --gpus`: who starts processes, what they are told, how a failure of one ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.parallel.command_launcher import start_processes
from phonofilm.parallel.launcher import launcher_rank


def test_processes_get_the_command_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    launcher = ModuleType("torch.distributed.run")
    launcher.main = told.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.distributed.run", launcher)
    words = "train --gpus 3 -c fsdp -o run --data a --data b --resume --allow optimizer.lr max_steps=2"
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    given = "train run --output=run --config=fsdp --data=a --data=b --allow=optimizer.lr --resume max_steps=2"
    assert told == [["--standalone", "--nproc_per_node=3", "-m", "phonofilm", *given.split()]]


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
        start_processes(3, ["train"])


def test_a_failure_says_why_once_and_ends_the_command(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "phonofilm", "train", "--gpus", "2", "-o", f"{tmp_path}/run", "no_such_key=1"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 2
    assert "no_such_key" in ended.stderr
    assert "Traceback" not in ended.stderr
