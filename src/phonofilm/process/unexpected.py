"""What the command line says of an exception that nobody foresaw: one line, where the traceback lies, and where to report it."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from tempfile import NamedTemporaryFile

from phonofilm.untrusted import printable

ISSUES = "https://github.com/phonofilm/phonofilm/issues"
# The machine's own refusals, which no report would mend.
OF_THE_MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
)


def is_unexpected(error: Exception) -> bool:
    """Whether this is no exception by which typer ends a command, nor a reader who closed the pipe."""
    if isinstance(error, OSError):
        return error.errno != errno.EPIPE
    return not any(kind.__module__.startswith(("typer.", "click.")) for kind in type(error).__mro__)


def report_unexpected(error: Exception, *, shown: bool) -> str:
    """The line for standard error. The traceback is in it if it is to be `shown`, else in a temporary file that it names."""
    about = printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE and not shown:
        return f"error: {about}"
    trace = "".join(traceback.format_exception(error))
    if shown:
        return f"{printable(trace)}error: unexpected {about}; please report it: {ISSUES}"
    return f"error: unexpected {about}; please report it with {_written(trace)} ({ISSUES}); --traceback prints it"


def _written(trace: str) -> Path | str:
    try:
        with NamedTemporaryFile(
            "w", prefix="phonofilm-traceback-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(trace)
    except OSError:
        return "its traceback"
    return Path(file.name)
