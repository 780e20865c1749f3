"""A run's `log.txt`: all messages from INFO on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG_FILE = "log.txt"


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """While open, the library's messages from INFO on are appended to FOLDER/log.txt, with the time of each."""
    logger = logging.getLogger("phonofilm")
    handler = _LogFile(folder / LOG_FILE, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    before = logger.level
    logger.setLevel(min(before or logging.INFO, logging.INFO))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log must not end a run: on a full disk a line is lost, and the checkpoint says what is wrong."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing."""
