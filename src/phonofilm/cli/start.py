"""The entry point `phonofilm`: interrupts first, then the commands, which are only imported here, then a quick way out."""

from __future__ import annotations

import sys

from phonofilm.process.interrupts import interruptible
from phonofilm.process.leaving import leave

INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with its exit code."""
    leave(run())


def run() -> str | int | None:
    """Run the command line; its exit code, or what `sys.exit` was given. SIGTERM ends a run as Ctrl-C does."""
    code: str | int | None = 0
    with interruptible():
        try:
            from phonofilm.cli.main import app
            from phonofilm.process.lean_imports import make_imports_lean

            make_imports_lean()
            app()
        except KeyboardInterrupt:
            code = INTERRUPTED
        except SystemExit as end:
            code = end.code
    if code == INTERRUPTED:
        sys.stderr.write("interrupted\n")
    return code
