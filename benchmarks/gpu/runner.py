"""Keeps time: starts a worker that runs the stages one after the other, and ends it when a stage overruns.

The stages run in another process because nothing else ends a call into a driver that does not return, and because an illegal
access on a card leaves its process without one. They share that process as long as all goes well: importing what they need
takes ten seconds, making the model's weights some more. After a stage that was ended, or broke the device, the next ones
start in a new worker. This process never touches the device.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.gpu.stages import SLOWER, Stage
from benchmarks.gpu.worker import STACKS, Job, work
from benchmarks.rows import Rows, read_rows

START_UP = 300.0
"""Seconds until a worker must have begun its first stage."""
GRACE, CLOSING, SLOWEST = 2.0, 10.0, 30.0
"""Seconds in which a stack that is being written grows; for a worker to leave; and for a stack to be written at all."""
LATE, GONE = "late", "gone"
LEAST = 5.0
"""Seconds that must be left of the budget for a stage to be tried."""


@dataclass(frozen=True)
class Options:
    """The command line's. `named`: whether the stages were asked for by name, which runs those that a host skips too."""

    out: Path
    size: str
    device: str
    budget: float
    named: bool


def run(options: Options, stages: Sequence[Stage]) -> int:
    """Run the stages within the budget; returns 0 if none failed. Every figure is in `out`/results.jsonl at once."""
    began = time.monotonic()
    rows = Rows(options.out / "results.jsonl")
    before = len(read_rows(rows.path)) if rows.path.exists() else 0
    _prepare_environment(options.device)
    with tempfile.TemporaryDirectory(prefix="phonofilm-gpu-") as scratch:
        job = Job(options.size, options.device, options.out, Path(scratch), options.named, began, rows)
        left = list(stages)
        while left:
            left = _one_worker(job, left, began + options.budget)
    written = read_rows(rows.path)[before:]
    failed = [row["stage"] for row in written if "error" in row]
    end = {"stage": "end", "t": time.monotonic() - began, "failed": failed}
    print(rows.add(end), flush=True)
    return 1 if failed else 0


def _prepare_environment(device: str) -> None:
    """What torch and triton read once, when the worker imports them. Kernels are compiled on a card, interpreted on a host."""
    os.environ["TRITON_INTERPRET"] = "0" if device == "cuda" else "1"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _one_worker(job: Job, stages: Sequence[Stage], deadline: float) -> list[Stage]:
    """Run stages in one worker until they are done, one is ended, or the worker ends. Returns those that are left."""
    left = list(stages)
    while left and deadline - time.monotonic() < LEAST:
        job.finish(left.pop(0).name, {"skipped": "no time left in the budget"})
    if not left:
        return left
    context = get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=work, args=(job, its))
    process.start()
    its.close()
    idle = False
    try:
        if _says(ours, process, min(deadline, time.monotonic() + START_UP)) != "ready":
            job.finish(left.pop(0).name, {"error": f"the worker did not start: {_how_it_ended(process)}"})
            return left
        while left and (remaining := deadline - time.monotonic()) >= LEAST:
            stage = left.pop(0)
            limit = min(stage.limit * SLOWER.get(job.size, 1), remaining)
            answer = _asked(ours, process, stage, limit)
            if answer == LATE:
                job.finish(stage.name, {"error": f"ended at its limit of {limit:.0f} s, in: {_stacks(job)}"})
            elif answer == GONE:
                job.finish(stage.name, {"error": f"the worker ended: {_how_it_ended(process)}"})
            if answer != "done":  # "broken": the stage's row is written, but the device no longer answers
                return left
        idle = True
        return left  # what the budget had no time for is listed by the next call
    finally:
        ours.close()  # an idle worker ends by itself then
        if idle:
            process.join(CLOSING)
        _end(process)


def _asked(ours: Connection, process: BaseProcess, stage: Stage, limit: float) -> str:
    """The worker's answer to a stage, or what `_says` says where there is none within the limit."""
    try:
        ours.send((stage, limit))
    except OSError:
        return GONE
    return _says(ours, process, time.monotonic() + limit)


def _says(ours: Connection, process: BaseProcess, deadline: float) -> str:
    """The worker's next word; LATE if there is none before the deadline, GONE if the worker has ended."""
    ready = wait([ours, process.sentinel], max(0.0, deadline - time.monotonic()))
    if not ready:
        return LATE
    try:
        return str(ours.recv()) if ours in ready else GONE
    except (EOFError, OSError):
        return GONE


def _stacks(job: Job) -> str:
    """Where every thread of the worker was at its limit."""
    path, until, before = job.scratch / STACKS, time.monotonic() + SLOWEST, 0
    while time.monotonic() < until:
        time.sleep(GRACE)
        size = path.stat().st_size if path.exists() else 0
        if size and size == before:
            break
        before = size
    return path.read_text(errors="replace")[:1500] if path.exists() else "unknown"


def _how_it_ended(process: BaseProcess) -> str:
    process.join(CLOSING)
    code = process.exitcode
    if code is None:
        return "it hangs"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _end(process: BaseProcess) -> None:
    """End a worker and whatever it started, and wait until the device is free again."""
    if process.pid is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
        except ProcessLookupError:
            process.kill()
    process.join()
