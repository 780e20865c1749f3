"""Bringing a database's tables to the newest shape: the migrations beside this file, run in one transaction under a lock."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.serving.database.engines import Database, open_database
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).with_name("migrations")
# Any number that no other program uses on the same database.
LOCK = 0x70686F6E6F
# Errors of the address, the server or the file; others, of a statement, are ours.
UNUSABLE = frozenset({"OperationalError", "InterfaceError", "DatabaseError"})


# Of a PostgreSQL server that may be up in a moment; whatever else it says stays as it is.
NOT_UP_YET = re.compile(
    "Connection refused|Connection reset|No such file or directory|failed to resolve host|could not translate host name|"
    "timeout expired|timed out|No route to host|Network is unreachable|server closed the connection|"
    "the database system is (?:starting up|not yet accepting|shutting down|in recovery)"
)
# How long a server or a worker waits for it at the start: a machine's services come up in any order.
START_PATIENCE = 60.0
PAUSE_SECONDS = 1.0


def open_migrated(address: str, patience: float = 0.0) -> Database:
    """A database, as `open_database` opens it, with tables of the newest shape; waited for at most `patience` seconds.

    Raises InputError, which shows no password, for one that does not let us in, is not there, or is none; PhonofilmError for
    one that did not come up in time.
    """
    database = open_database(address)
    if not database.is_sqlite:
        logger.info("connecting to the job database on %s", shown(database.url.host or "this machine"))
    where = shown(database.url.render_as_string(hide_password=True))
    began = time.monotonic()
    while True:
        try:
            migrate(database)
        except DBAPIError as error:
            if type(error).__name__ not in UNUSABLE:
                raise
            reason, waited = shown(" ".join(str(error.orig).split())), time.monotonic() - began
            if not patience or database.is_sqlite or NOT_UP_YET.search(reason) is None:
                database.close()
                raise InputError(f"the job database {where} cannot be used: {reason}; check --database-url") from None
            if waited >= patience:
                database.close()
                raise PhonofilmError(
                    f"the job database {where} did not come up within {patience:g} s: {reason}"
                ) from None
            logger.warning("waiting for the job database %s (%.0f of %.0f s): %s", where, waited, patience, reason)
            time.sleep(PAUSE_SECONDS)
        else:
            return database


def migrate(database: Database) -> None:
    """Create or change the tables. Several servers may start at once: the first does it, the others wait."""
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        run_migrations(connection)


def run_migrations(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` in the connection's transaction.

    Raises InputError for tables of a newer version than this one.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    level = logging.getLogger("alembic").level
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        if "Can't locate revision" not in str(error):
            raise
        raise InputError(
            "the job database was made by a newer Phonofilm, whose tables this one does not know; use that one, or name another "
            "database with --database-url"
        ) from error
    logging.getLogger("alembic").setLevel(level)
