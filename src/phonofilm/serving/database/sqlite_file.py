"""The file of an SQLite database: made once, for its owner alone, and known again as long as it is used."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, MutableSequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import OperationalError

from phonofilm.errors import InputError


class FileGone(Exception):
    """The file that was opened lies no more where it was."""


@dataclass
class SqliteFile:
    """`identity`: device and inode of the file that was opened first; None before there was one."""

    path: Path
    identity: tuple[int, int] | None = None

    def create(self) -> None:
        """Make a new database's folder and file readable by their owner alone: it holds prompts and hashes of keys.

        SQLite gives its write-ahead log the same mode. One that is there already keeps the mode that it has.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise InputError(f"cannot open the database {self.path}: {error.strerror}; name another file") from error

    def require(self) -> None:
        """Raises OperationalError, as for a server that is away, where the path does not lead to the file that was opened.

        SQLite itself would not notice: an open connection goes on with a file that was moved or removed, and whoever opens the
        path next sees none of what is written there.
        """
        try:
            found = self.path.stat()
        except OSError:
            raise OperationalError(None, None, FileGone("its file was moved or removed")) from None
        identity = (found.st_dev, found.st_ino)
        if self.identity is None:
            self.identity = identity
        elif self.identity != identity:
            reason = "another file is in its place; put the first one back, or start again"
            raise OperationalError(None, None, FileGone(reason))

    def open_only(
        self, dialect: Any, record: Any, words: MutableSequence[Any], options: MutableMapping[str, Any]
    ) -> None:
        """Before each connection (SQLAlchemy's event `do_connect`): SQLite must not make a file where there is none."""
        words[0] = f"file:{quote(str(self.path))}?mode=rw"
        options["uri"] = True
