"""The process that measures: runs one stage after the other, and writes down what fails. torch is imported in here only."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu.stages import Skipped, Stage
from benchmarks.rows import Rows

if TYPE_CHECKING:
    from benchmarks.gpu.context import Context

STACKS = "stacks.txt"
MOST = 600
"""Characters of an error's text, and of its traceback, in a row."""


@dataclass(frozen=True)
class Job:
    """What a worker is to measure on, and where its rows go. `began`: on the monotonic clock, which processes share."""

    size: str
    device: str
    out: Path
    scratch: Path
    named: bool
    began: float
    rows: Rows

    def add(self, stage: str, figures: Mapping[str, object]) -> None:
        """A row of this stage, printed as well."""
        row = {"stage": stage, "t": round(time.monotonic() - self.began, 1), **figures}
        print(self.rows.add(row), flush=True)

    def finish(self, stage: str, figures: Mapping[str, object]) -> None:
        """The stage's last row."""
        self.add(stage, {"what": "over", **figures})


def work(job: Job, runner: Connection) -> None:
    """Run the stages that `runner` sends, with their limits, and answer to each "done" or, with the device lost, "broken"."""
    os.setpgrp()  # ended as one, with whatever it started
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    with (job.scratch / STACKS).open("a") as stacks:
        from benchmarks.gpu.context import Context

        context = Context(job)
        runner.send("ready")
        while True:
            try:
                stage, limit = runner.recv()
            except EOFError:
                return
            stacks.truncate(0)
            faulthandler.dump_traceback_later(limit, file=stacks)  # by a thread that needs no interpreter
            _run(job, stage, context)
            faulthandler.cancel_dump_traceback_later()
            if not context.recover():
                runner.send("broken")
                return
            runner.send("done")


def _run(job: Job, stage: Stage, context: Context) -> None:
    began = time.monotonic()
    module, _, function = stage.entry.partition(":")
    context.begin(stage.name)
    try:
        getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(context)
    except Skipped as reason:
        job.finish(stage.name, {"skipped": str(reason)})
    except Exception as error:  # noqa: BLE001 - whatever fails is a row, and the other stages go on
        where = "".join(traceback.format_tb(error.__traceback__))[-MOST:]
        text = f"{type(error).__name__}: {error}"[:MOST]
        job.finish(stage.name, {"error": text, "where": where, "seconds": time.monotonic() - began})
    else:
        job.finish(stage.name, {"seconds": time.monotonic() - began})


def _end_with_the_runner() -> None:
    """A runner that is killed takes its worker along."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(os.getpgrp(), signal.SIGKILL)
