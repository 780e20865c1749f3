"""What the user of a run should see of what the library logs: warnings, and notices, which warn of nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

NOTICE = 25
"""Between INFO and WARNING: what a run resumes, validates on and stops at, and what it changes in a clip's tracks."""


class LogLines(logging.Handler):
    """The library's notices and warnings as lines of the report that is showing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(NOTICE)
        self._say = say
        self._logger = logging.getLogger("phonofilm")
        self._level = self._logger.level

    def attach(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(min(self._level or NOTICE, NOTICE))
        self._logger.addHandler(self)

    def detach(self) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        kind = "" if record.levelno == NOTICE else f"{record.levelname.lower()}: "
        self._say(f"{kind}{record.getMessage()}")
