"""Bringing a database's tables to the newest shape: the migrations beside this file, run in one transaction under a lock."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, text

from phonofilm.serving.database.engines import Database, open_database

logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).with_name("migrations")
# Any number that no other program uses on the same database.
LOCK = 0x70686F6E6F


def open_migrated(address: str) -> Database:
    """A database, as `open_database` opens it, with tables of the newest shape."""
    database = open_database(address)
    migrate(database)
    return database


def migrate(database: Database) -> None:
    """Create or change the tables. Several servers may start at once: the first does it, the others wait."""
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        run_migrations(connection)


def run_migrations(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    level = logging.getLogger("alembic").level
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config, revision)
    logging.getLogger("alembic").setLevel(level)
