"""Says in the log that the job database is away, and that it is back: once each, however many statements fail meanwhile."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from phonofilm.serving.database.sqlite_file import FileGone

logger = logging.getLogger(__name__)

# What keeps a database that is still read from being written: PostgreSQL's by SQLSTATE (a full disk, a broken one, a standby).
_FULL, _UNWRITABLE = "53100", ("53100", "58030", "25006")
_SQLITE_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
UNREACHABLE = "the job database cannot be reached"


def is_unreachable(error: BaseException) -> bool:
    """Whether a statement failed because the database is gone, locked or full: trying again later can help."""
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError")
    )


def is_full(error: DBAPIError) -> bool:
    """Whether a statement failed because the database's disk is full."""
    return _sqlite_code(error) == sqlite3.SQLITE_FULL or getattr(error.orig, "sqlstate", None) == _FULL


def reason_of(error: DBAPIError) -> str:
    """What is wrong with a database that `is_unreachable`, as clients may read it."""
    if is_full(error):
        return "the job database cannot be written: its disk is full"
    return "the job database cannot be written" if _is_unwritable(error) else UNREACHABLE


def _is_unwritable(error: DBAPIError) -> bool:
    return _sqlite_code(error) in _SQLITE_UNWRITABLE or getattr(error.orig, "sqlstate", None) in _UNWRITABLE


def _sqlite_code(error: DBAPIError) -> int | None:
    """SQLite's primary result code."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@dataclass
class Proof:
    """Whether a transaction changed something, which shows that the database can be written."""

    changed: bool = False


@dataclass
class Outages:
    """Of one database, as this process sees it. Nothing counts before it answered first: who opens it says what is wrong then.

    reason: why it is away; None while it is not. cannot_write: what failed was writing, so that only a transaction that changed
    something shows that it is over; reads go on meanwhile.
    """

    reason: str | None = None
    cannot_write: bool = False
    _has_answered: bool = False
    _changing: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def watched(self) -> Iterator[Proof]:
        """Around a transaction: how it ends says whether the database is there."""
        proof = Proof()
        try:
            yield proof
        except DBAPIError as error:
            if is_unreachable(error):
                self._failed(error)
            raise
        if not self._has_answered or (self.reason is not None and (proof.changed or not self.cannot_write)):
            self._succeeded()

    def _failed(self, error: DBAPIError) -> None:
        with self._changing:
            if not self._has_answered:
                return
            was_away, self.reason = self.reason is not None, reason_of(error)
            self.cannot_write = self.cannot_write or _is_unwritable(error)
        if not was_away:
            kind = str(error.orig) if isinstance(error.orig, FileGone) else type(error).__name__
            logger.error("%s (%s); it is asked again until it is back", reason_of(error), kind)

    def _succeeded(self) -> None:
        with self._changing:
            was_away = self.reason is not None
            self._has_answered, self.reason, self.cannot_write = True, None, False
        if was_away:
            logger.info("the job database is back")
