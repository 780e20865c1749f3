"""The entry point `phonofilm`: interrupts first, then the commands, which are only imported here, then a quick way out."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

from phonofilm.cli.interrupts import interruptible

INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with its exit code."""
    leave(run())


def run() -> str | int | None:
    """Run the command line; its exit code, or what `sys.exit` was given. SIGTERM ends a run as Ctrl-C does."""
    code: str | int | None = 0
    with interruptible():
        try:
            from phonofilm.cli.lean_imports import make_imports_lean
            from phonofilm.cli.main import app

            make_imports_lean()
            app()
        except KeyboardInterrupt:
            code = INTERRUPTED
        except SystemExit as end:
            code = end.code
    if code == INTERRUPTED:
        sys.stderr.write("interrupted\n")
    return code


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
