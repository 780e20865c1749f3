"""Starting ranks on this machine, and how they end. What a rank is, and ranks that torchrun has started: rank.py.

A rank that fails or dies ends the others within seconds: the process that started them watches, not a timeout.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import connection, get_all_start_methods, get_context
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import FunctionType
from typing import Any, TypeVar

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.parallel.rank import Rank, RankError
from phonofilm.parallel.started_ranks import SHUTDOWN_GRACE, StartedRanks, passing_interrupts_on
from phonofilm.process.orphans import end_with_parent

RankResult = TypeVar("RankResult")

# Seconds after the first failure: time for the cause to show among its consequences.
FAILURE_GRACE = 2.0
# How long the exit code of a rank that has ended may take to arrive, through the process that forked it.
EXIT_CODE_PATIENCE = 60.0


def launch(world: int, work: Callable[..., RankResult], *args: Any, orderly: bool = False) -> RankResult:
    """Runs `work(rank, *args)` in `world` new processes; returns what the first rank returned.

    `work` is a module's function; it and `args` are pickled. Raises what failed first: the error of a rank that raised a
    PhonofilmError, or RankError for one that died. All processes have ended when this returns or raises.

    An interrupt ends the ranks within seconds. With `orderly` work, which stops at SIGTERM when it has saved what it has
    done, the first interrupt only asks for that, and is waited for; a second one ends the ranks.
    """
    ranks = StartedRanks()
    try:
        with passing_interrupts_on(ranks) if orderly else nullcontext():
            start_ranks(ranks, world, work, *args, orderly=orderly)
            result: RankResult = collect(ranks)
        return result
    finally:
        ranks.end()


def start_ranks(
    ranks: StartedRanks, world: int, work: Callable[..., object], *args: Any, orderly: bool = False
) -> None:
    """Start the processes of `launch`, for the caller to `collect` and to end; what is started so far is in `ranks`."""
    context = _processes([part.__module__ for part in (work, *args) if isinstance(part, FunctionType)])
    for number in range(world):
        receiver, sender = context.Pipe(duplex=False)
        rank = Rank(number, world, number, ranks.rendezvous)
        process = context.Process(target=_run_rank, args=(sender, rank, work, args, orderly), daemon=True)
        process.start()
        sender.close()
        ranks.add(process, receiver)


def _processes(modules: list[str]) -> ForkServerContext | SpawnContext:
    """Processes that have imported `modules` once for all, where forking a server is possible; else one import each."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(modules)
    return context


@dataclass(frozen=True)
class _Failure:
    """How a rank failed: `error` if it was ours to raise, else `description`, a traceback or the way the process died."""

    number: int
    error: PhonofilmError | None
    description: str
    is_consequence: bool = False
    died: bool = False

    @property
    def distance(self) -> tuple[bool, bool, bool]:
        """How far from the cause: others fail because one has gone. One that died, or raised an error of ours, is near."""
        return not self.died, self.error is None, self.is_consequence

    def as_error(self) -> PhonofilmError:
        return self.error or RankError(f"rank {self.number} {self.description}")


def _run_rank(
    sender: connection.Connection, rank: Rank, work: Callable[..., RankResult], args: Sequence[Any], orderly: bool
) -> None:
    """A rank's process: runs the work and reports the outcome."""
    if orderly and hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C goes to the process that started the ranks, which asks each once
    signal.signal(signal.SIGTERM, _interrupt)
    end_with_parent()
    try:
        outcome = _outcome(rank, work, args)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # on its way out there is nothing more to tidy up, or to say
        sender.send(outcome)
    except KeyboardInterrupt:
        os._exit(130)
    if isinstance(outcome, _Failure):
        os._exit(1)  # all that is left is the process group, which would wait for the others


def _outcome(rank: Rank, work: Callable[..., RankResult], args: Sequence[Any]) -> RankResult | _Failure:
    try:
        return work(rank, *args)
    except PhonofilmError as error:
        kind = InputError if isinstance(error, InputError) else PhonofilmError
        return _Failure(rank.number, kind(str(error)), str(error), isinstance(error, RankError))
    except Exception:  # noqa: BLE001 - whatever it is, the parent process reports it
        return _Failure(rank.number, None, f"failed:\n{traceback.format_exc()}")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def collect(ranks: StartedRanks) -> Any:
    """Waits for all ranks to finish, or for one to fail; returns what the first one returned, or raises as `launch` does."""
    waiting = {receiver: number for number, receiver in enumerate(ranks.receivers)}
    results: dict[int, Any] = {}
    failures: list[_Failure] = []
    until: float | None = None
    while waiting:
        left = None if until is None else max(0.0, until - time.monotonic())
        ready = connection.wait(list(waiting), left)
        if not ready:
            break
        for receiver in ready:
            assert isinstance(receiver, connection.Connection)
            number = waiting.pop(receiver)
            outcome = _receive(receiver, ranks.processes[number], number)
            if not isinstance(outcome, _Failure):
                results[number] = outcome
                continue
            failures.append(outcome)
            until = until or time.monotonic() + FAILURE_GRACE
    if failures:
        raise min(failures, key=lambda failure: failure.distance).as_error()
    for process in ranks.processes:
        process.join(SHUTDOWN_GRACE)
    return results[0]


def _receive(receiver: connection.Connection, process: BaseProcess, number: int) -> Any:
    try:
        return receiver.recv()
    except EOFError:
        process.join(EXIT_CODE_PATIENCE)
        code = process.exitcode
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})" if code and code < 0 else f"exited ({code})"
        hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
        return _Failure(number, None, how + hint, died=True)
