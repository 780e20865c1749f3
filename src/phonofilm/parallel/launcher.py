"""Ranks: how they find each other, and how they end. Either we start them all on this machine, or torchrun has.

A rank that fails or dies ends the others within seconds: the process that started them watches, not a timeout.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from phonofilm.errors import InputError, PhonofilmError

RankResult = TypeVar("RankResult")

# How long a rank waits for the others in one exchange. Loading, decoding and writing a clip happen between exchanges.
PATIENCE = timedelta(minutes=20)
# After the first failure: time for the cause to show among its consequences, and for the others to tidy up.
FAILURE_GRACE, SHUTDOWN_GRACE = 2.0, 5.0
# How long the exit code of a rank that has ended may take to arrive, through the process that forked it.
EXIT_CODE_PATIENCE = 60.0


class RankError(PhonofilmError):
    """Work shared by ranks cannot go on: it failed here, and the others wait. Never something to continue after."""


@dataclass(frozen=True)
class Rank:
    """One of `world` processes that work on the same clip; `local` is its number on its machine."""

    number: int
    world: int
    local: int
    rendezvous: str

    @property
    def is_first(self) -> bool:
        """The one that reports and writes."""
        return self.number == 0


def launcher_rank(gpus: int = 1) -> Rank | None:
    """This process's rank if torchrun (or anything that sets its variables for more than one process) started it.

    Raises InputError when it started another number of processes than `gpus`, unless that is 1.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return None
    if gpus not in (1, world):
        raise InputError(f"{gpus} devices were asked for, and {world} ranks were started; leave gpus out")
    return Rank(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")), "env://")


def device_of(rank: Rank, name: str) -> torch.device:
    """The device of a rank: for "cpu" the host, for "auto" and "cuda" GPU number `local`. Raises InputError without it."""
    if name == "cpu":
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise InputError(f"device {name} is one device, and {rank.world} ranks need one each; use cuda or cpu")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if rank.local >= here:
        raise InputError(
            f"{rank.world} devices were asked for, and PyTorch sees {here} CUDA devices here; "
            + ("use fewer" if here else "device=cpu tries it on the host")
        )
    return torch.device("cuda", rank.local)


@contextmanager
def process_group(rank: Rank, device: torch.device) -> Iterator[None]:
    """The process group, for as long as the context lasts: NCCL between GPUs, gloo between host processes."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=rank.rendezvous,
        rank=rank.number,
        world_size=rank.world,
        timeout=PATIENCE,
    )
    yield
    # Only after success: with a rank gone, leaving in good order would wait for it.
    dist.destroy_process_group()


def broadcast_number(number: int) -> int:
    """The first rank's value of a number (below 2^63), on every rank."""
    value = torch.tensor(number, dtype=torch.int64)
    dist.broadcast(value, src=0)
    return int(value)


def launch(world: int, work: Callable[..., RankResult], *args: Any) -> RankResult:
    """Runs `work(rank, *args)` in `world` new processes; returns what the first rank returned.

    `work` is a module's function; it and `args` are pickled. Raises what failed first: the error of a rank that raised a
    PhonofilmError, or RankError for one that died. All processes have ended when this returns or raises.
    """
    context = _processes([part.__module__ for part in (work, *args) if isinstance(part, FunctionType)])
    with TemporaryDirectory(prefix="phonofilm-ranks-") as folder:
        rendezvous = (Path(folder) / "rendezvous").as_uri()
        ranks, receivers = [], []
        try:
            for number in range(world):
                receiver, sender = context.Pipe(duplex=False)
                rank = Rank(number, world, number, rendezvous)
                process = context.Process(target=_run_rank, args=(sender, rank, work, args), daemon=True)
                process.start()
                sender.close()
                ranks.append(process)
                receivers.append(receiver)
            result: RankResult = _collect(ranks, receivers)
            return result
        finally:
            _end(ranks)


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
    died: bool = False

    def as_error(self) -> PhonofilmError:
        return self.error or RankError(f"rank {self.number} {self.description}")


def _run_rank(sender: connection.Connection, rank: Rank, work: Callable[..., RankResult], args: Sequence[Any]) -> None:
    """A rank's process: runs the work and reports the outcome."""
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = _outcome(rank, work, args)
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
        return _Failure(rank.number, kind(str(error)), str(error))
    except Exception:  # noqa: BLE001 - whatever it is, the parent process reports it
        return _Failure(rank.number, None, f"failed:\n{traceback.format_exc()}")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _collect(ranks: Sequence[BaseProcess], receivers: Sequence[connection.Connection]) -> Any:
    """Waits for all ranks to finish, or for one to fail."""
    waiting = dict(zip(receivers, range(len(receivers)), strict=True))
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
            outcome = _receive(receiver, ranks[number], number)
            if not isinstance(outcome, _Failure):
                results[number] = outcome
                continue
            failures.append(outcome)
            until = until or time.monotonic() + FAILURE_GRACE
    if failures:
        # The others fail because one has gone: one that died, or raised an error of ours, is nearer to the cause.
        raise min(failures, key=lambda failure: (not failure.died, failure.error is None)).as_error()
    for process in ranks:
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


def _end(ranks: Sequence[BaseProcess]) -> None:
    """Ends what still runs: first by asking, so that temporary files are removed."""
    for process in ranks:
        process.terminate()
    deadline = time.monotonic() + SHUTDOWN_GRACE
    for process in ranks:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
