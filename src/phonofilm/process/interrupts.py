"""Ctrl-C and SIGTERM as a KeyboardInterrupt that arrives: Python drops one that is raised inside a callback of its own."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.1  # seconds until an interrupt that did not arrive is raised once more


@contextmanager
def interruptible() -> Iterator[None]:
    """While open, SIGINT and SIGTERM raise KeyboardInterrupt in the main thread until it is on its way out.

    While modules are imported, weak references' callbacks and destructors run all the time; what is raised in one of them
    is printed as "Exception ignored" and lost, and so was every fifth Ctrl-C in the first second. So the interrupt is
    raised again until it is being handled. Nothing is raised a second time into a `finally` or `except` of the first,
    unless the user presses Ctrl-C a second time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A job that a shell starts in the background is to ignore SIGINT.
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    tick = getattr(signal, "SIGALRM", None)  # not on Windows, where an interrupt is raised once
    if tick is not None:
        before[tick] = signal.signal(tick, _interrupt_unless_handled)
    try:
        yield
    finally:
        if tick is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    raise KeyboardInterrupt


def _interrupt_unless_handled(number: int, frame: FrameType | None) -> None:
    handled = sys.exc_info()[1]
    while handled is not None and not isinstance(handled, KeyboardInterrupt):
        handled = handled.__context__  # tidying up may be in an error of its own
    if handled is None:
        raise KeyboardInterrupt


def interrupt_arrived() -> None:
    """To be called where an interrupt has ended what ran, so that it is not raised again."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
