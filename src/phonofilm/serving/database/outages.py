"""Says in the log that the job database is away, and that it is back: once each, however many statements fail meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from phonofilm.serving.database.sqlite_file import FileGone

logger = logging.getLogger(__name__)


def is_unreachable(error: BaseException) -> bool:
    """Whether a statement failed because the database is gone, locked or full: trying again later can help."""
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError")
    )


@dataclass
class Outages:
    """Of one database, as this process sees it. `is_away` is None before it answered first: who opens it says what is wrong."""

    is_away: bool | None = None
    _changing: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around a transaction: how it ends says whether the database is there."""
        try:
            yield
        except DBAPIError as error:
            if is_unreachable(error):
                self._say(True, str(error.orig) if isinstance(error.orig, FileGone) else type(error).__name__)
            raise
        if self.is_away is not False:
            self._say(False, "")

    def _say(self, is_away: bool, kind: str) -> None:
        with self._changing:
            before = self.is_away
            if before is is_away or (before is None and is_away):
                return
            self.is_away = is_away
        if before is None:
            return
        if is_away:
            logger.error("the job database cannot be reached (%s); it is asked again until it is back", kind)
        else:
            logger.info("the job database is back")
