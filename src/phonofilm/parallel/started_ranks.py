"""The processes of ranks that were started: asked to stop in good order, or ended within seconds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from phonofilm.parallel.rank import RankError

SHUTDOWN_GRACE = 5.0  # seconds to tidy up


class StartedRanks:
    """Processes, and where their outcomes arrive, by their ranks' numbers.

    rendezvous: where they find each other. asked_to_stop: holds for processes that are added later too.
    """

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []
        self.receivers: list[Connection] = []
        self.asked_to_stop = False
        self._folder = TemporaryDirectory(prefix="phonofilm-ranks-")
        self.rendezvous = (Path(self._folder.name) / "rendezvous").as_uri()

    def add(self, process: BaseProcess, receiver: Connection) -> None:
        """The next rank's, which has been started."""
        self.processes.append(process)
        self.receivers.append(receiver)
        if self.asked_to_stop:
            process.terminate()

    def ask_to_stop(self) -> None:
        """SIGTERM, to each."""
        self.asked_to_stop = True
        for process in self.processes:
            process.terminate()

    def wait(self) -> None:
        """Give them a few seconds to end of themselves."""
        deadline = time.monotonic() + SHUTDOWN_GRACE
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Ends what still runs: first by asking, so that temporary files are removed."""
        self.ask_to_stop()
        self.wait()
        for process in self.processes:
            if process.is_alive():
                process.kill()
                process.join()
        self._folder.cleanup()


@contextmanager
def passing_interrupts_on(ranks: StartedRanks) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks the ranks to stop, and a second one acts as it did before.

    Ranks that cannot stop in good order yet die of the first, which is raised as a KeyboardInterrupt. Outside the main
    thread, where Python allows no signal handlers, nothing is passed on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}

    def pass_on(number: int, frame: FrameType | None) -> None:
        for each, handler in before.items():
            signal.signal(each, handler)
        ranks.ask_to_stop()

    for number in before:
        signal.signal(number, pass_on)
    try:
        yield
    except RankError as error:
        if ranks.asked_to_stop:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
