"""The GPU benchmark loses nothing: a stage that fails, hangs or kills its process is a row, and so is every other stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.runner import Options, run
from benchmarks.gpu.stages import STAGES, Stage, stages_named
from benchmarks.rows import read_rows

ROOT = Path(__file__).parents[2]
# What a borrowed machine does not have. Every process of the run imports this first.
NOT_THERE = """
import importlib.metadata, sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in ("av", "pydantic", "pydantic_core")
        return None if hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
known = importlib.metadata.version

def version(name):
    if name == "phonofilm":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

importlib.metadata.version = version
"""
# Stages of a benchmark of the test's own.
BAD_STAGES = """
import ctypes, os, time

def fine(context):
    context.row("figure", {"value": 1.5})

def fails(context):
    context.row("half", {"value": 2})
    raise RuntimeError("no kernel image is available")

def dies(context):
    os.kill(os.getpid(), 9)

def hangs(context):
    context.row("half", {"value": 3})
    ctypes.pythonapi.sleep(3600)  # holds the interpreter: no signal handler and no thread of Python runs
"""


def environment(tmp_path: Path) -> dict[str, str]:
    paths = [str(tmp_path), str(ROOT / "src"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def command(out: Path, budget: int) -> list[str]:
    tiny = ["--size", "tiny", "--device", "cpu", "--budget", str(budget)]
    return [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), *tiny]


def test_every_stage_has_a_row_and_none_an_error_without_pyav_pydantic_or_the_package(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOT_THERE)
    done = subprocess.run(
        command(tmp_path / "out", budget=900), cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = read_rows(tmp_path / "out" / "results.jsonl")
    assert [row["stage"] for row in rows if row.get("what") == "over"] == [stage.name for stage in STAGES]
    assert not [row for row in rows if "error" in row]
    skipped = {row["stage"]: row["skipped"] for row in rows if "skipped" in row}
    assert skipped.keys() == {"training", "compiled"}
    assert "pydantic" in skipped["training"]
    written = next(row for row in rows if row["stage"] == "clip" and row["what"] == "file")
    assert written["why"] == "the package av is not installed"
    same = [row for row in rows if "same_as_fused" in row or "same_as_fp8" in row]
    assert len(same) == 3
    assert all(row.get("same_as_fused", row.get("same_as_fp8")) for row in same)


@pytest.mark.parametrize("rows", [1, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (0, 4))])
def test_killed_after_any_row_it_leaves_whole_rows_and_no_process(tmp_path: Path, rows: int) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(
        command(out, budget=60), cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert running.stdout is not None
    while rows:
        line = running.stdout.readline()
        assert line, "it ended before it was killed"
        rows -= line.startswith(b"{")
    running.send_signal(signal.SIGKILL)
    # Its worker holds the other end of the pipe: when it has ended too there is nothing left to read.
    running.communicate()
    path = out / "results.jsonl"
    if path.exists():
        assert len(read_rows(path)) == path.read_bytes().count(b"\n")


@pytest.mark.slow
def test_stages_that_fail_die_or_hang_are_rows_and_the_next_ones_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "bad"
    package.mkdir()
    (package / "bad_stages.py").write_text(BAD_STAGES)
    # Worker processes find the module as a stage of the package.
    (tmp_path / "sitecustomize.py").write_text(
        f"import benchmarks.gpu\nbenchmarks.gpu.__path__.append({str(package)!r})\n"
    )
    for name, value in {**environment(tmp_path), "HF_HUB_OFFLINE": "1", "TRITON_INTERPRET": "1"}.items():
        monkeypatch.setenv(name, value)
    names = ("fine", "fails", "dies", "hangs")
    # Only the one that hangs reaches its limit.
    stages = [Stage(name, f"bad_stages:{name}", expected=1, limit=1 if name == "hangs" else 60) for name in names]
    assert run(Options(tmp_path / "out", "tiny", "cpu", 600, named=False), stages) == 1
    rows = read_rows(tmp_path / "out" / "results.jsonl")
    over = [row for row in rows if row.get("what") == "over"]
    assert [row["stage"] for row in over] == list(names)
    assert ["error" in row for row in over] == [False, True, True, True]
    assert "no kernel image" in over[1]["error"]
    assert "SIGKILL" in over[2]["error"]
    assert over[3]["error"].startswith("ended at its limit of 5 s, in: ")
    assert "in hangs" in over[3]["error"]
    assert [row["value"] for row in rows if "value" in row] == [1.5, 2, 3]
    assert rows[-1]["failed"] == ["fails", "dies", "hangs"]


def test_without_time_every_stage_is_a_row_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as the runner sets it, but for this test alone
    assert run(Options(tmp_path, "tiny", "cpu", 1.0, named=False), STAGES) == 0
    rows = read_rows(tmp_path / "results.jsonl")
    assert [row["stage"] for row in rows] == [*(stage.name for stage in STAGES), "end"]
    assert all(row["skipped"] == "no time left in the budget" for row in rows[:-1])


def test_stages_keep_their_order_of_value_and_unknown_ones_are_refused() -> None:
    assert [stage.name for stage in stages_named(["streamed", "machine"])] == ["machine", "streamed"]
    with pytest.raises(ValueError, match="stage race is unknown; use machine, eager"):
        stages_named(["race"])


def test_every_test_for_a_gpu_is_where_a_gpu_looks_for_it() -> None:
    """`pytest -m gpu` imports nothing else, because the rest needs packages that are not there."""
    elsewhere = [
        path for path in ROOT.glob("tests/**/*.py") if "mark.gpu" in path.read_text() and path.parent.name != "gpu"
    ]
    assert elsewhere == [Path(__file__)]
