"""No process outlives the one that started it, however that one ended."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """In a process of multiprocessing: watch the one that started it from a thread, and end at once when it has ended.

    A killed process ends none of its own, and those of a pool wait for work for ever, with their memory.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
