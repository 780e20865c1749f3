"""The tests that need a card, `pytest -m gpu`, with their output kept. On a host they are only collected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.context import Context
from benchmarks.gpu.stages import SLOWER

ROOT = Path(__file__).parents[2]
MOST = 100
"""Seconds for all tests; what they said so far is kept when they take longer."""


def run(context: Context) -> None:
    """A row with the outcome, one for every test that failed, and all of the output in pytest.log."""
    context.drop()
    most = MOST * SLOWER.get(context.job.size, 1)
    log = context.job.out / "pytest.log"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rfE", "tests/gpu"]
    command += [] if context.on_gpu else ["--collect-only"]
    with log.open("w") as stream:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=stream, timeout=most, env=_environment())
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the tests took over {most} s: {_tail(log)}") from None
    said = log.read_text(errors="replace")
    for line in re.findall(r"^(?:FAILED|ERROR) .*$", said, flags=re.MULTILINE):
        context.row("test", {"failed": line[:300]})
    context.row("pytest", {"command": " ".join(command[1:]), "code": code.returncode, "said": _tail(log)})
    if code.returncode:
        raise RuntimeError(f"pytest ended with code {code.returncode}: {_tail(log)}")


def _environment() -> dict[str, str]:
    """This process's, less what would have kernels interpreted; the package is found where this process found it."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-300:]
