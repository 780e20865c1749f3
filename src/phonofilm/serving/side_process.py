"""A process beside the server for what should not run in it: decoding files of others, and what imports PyTorch.

It is started when it is first needed, does one thing at a time, and is replaced when it dies or takes too long.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, Protocol, TypeVar

from phonofilm.errors import PhonofilmError
from phonofilm.process.lean_imports import make_imports_lean

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

LONGEST_SECONDS = 120.0


class SideProcessError(PhonofilmError):
    """The work was not done: its process died, or took too long."""


class Runner(Protocol):
    """Runs functions somewhere and gives back what they return, or raises what they raise."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function there. Its arguments and its result must be picklable."""

    def close(self) -> None:
        """End it."""


class InThisProcess:
    """A runner that is no process of its own."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def close(self) -> None:
        """Nothing is held."""


class SideProcess:
    """A runner in one process of its own; callers wait for each other."""

    def __init__(self, name: str, longest: float = LONGEST_SECONDS) -> None:
        self.name, self.longest = name, longest
        self._lock = threading.Lock()
        self._process: Any = None
        self._connection: Connection | None = None

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises SideProcessError when the process dies or is longer at it than it may be."""
        with self._lock:
            connection = self._connection or self._start()
            try:
                connection.send((function, args, kwargs))
                if not connection.poll(self.longest):
                    self._end()
                    raise SideProcessError(f"this took longer than {self.longest:.0f} s and was given up")
                done, answer = connection.recv()
            except (EOFError, OSError) as error:
                self._end()
                raise SideProcessError("the process that does this died; try again, or use a smaller file") from error
        if not done:
            raise answer
        result: T = answer
        return result

    def close(self) -> None:
        process = self._process
        if process is not None:
            process.kill()  # whoever waits for an answer learns of it at once
        with self._lock:
            self._end()

    def _start(self) -> Connection:
        # "spawn": a fork would take over the server's threads' locks and its sockets.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), name=self.name, daemon=True)
        self._process.start()
        theirs.close()
        self._connection = ours
        return ours

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
        self._connection = self._process = None


def _work(connection: Connection) -> None:
    """Answer until the other end is closed, by the server or by its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make_imports_lean()
    while True:
        try:
            function, args, kwargs = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, function(*args, **kwargs))
        except PhonofilmError as error:
            answer = (False, error)
        except Exception as error:
            # Whatever it was, the process goes on and the caller learns of it.
            logger.exception("%s failed", function.__name__)
            answer = (
                False,
                SideProcessError(f"an unexpected error ({type(error).__name__}); the server's log says more"),
            )
        connection.send(answer)
