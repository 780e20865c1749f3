"""`phonofilm` in processes of their own that start at once: forks of this one, in which everything is imported already."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from phonofilm.cli.start import run


@dataclass(frozen=True)
class Process:
    """One run; its output is in a pipe. `wait` may be called once."""

    pid: int
    reads: int

    def wait(self) -> tuple[int, str]:
        """The exit code (minus the signal for a killed one) and all that was printed."""
        with os.fdopen(self.reads, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), text

    def kill_after(self, seconds: float, signal: int) -> tuple[int, str]:
        time.sleep(seconds)
        os.kill(self.pid, signal)
        return self.wait()


def start(*arguments: str | Path, largest_file: int | None = None) -> Process:
    """Begin `phonofilm *arguments`. `largest_file`: bytes after which writing fails, as on a full disk."""
    torch.set_num_threads(1)
    reads, writes = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writes)
        return Process(pid, reads)
    try:
        os.dup2(writes, 1)
        os.dup2(writes, 2)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        sys.argv = ["phonofilm", *map(str, arguments)]
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        code = run()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
    finally:
        os._exit(99)
