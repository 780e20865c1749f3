"""The end of a process of ours, without the second that tearing down what was imported takes."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn


def leave(code: str | int | None) -> NoReturn:
    """End the process as `sys.exit(code)` does, without tearing down what was imported, which takes a second or more.

    What other modules registered with atexit runs, and streams are flushed. While a thread that must end works, the usual
    way is taken.
    """
    others = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    if others or isinstance(code, str):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed by the reader, or by us: nothing is left to say
            code = code or 1
    os._exit(code or 0)
