"""Opening the job database: SQLite in one file, or PostgreSQL by its URL. Reads and writes have an engine each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from phonofilm.errors import InputError
from phonofilm.serving.database.outages import Outages
from phonofilm.serving.database.sqlite_file import SqliteFile

BUSY_MILLISECONDS = 20_000
CONNECT_SECONDS = 10
# SQLite's write-ahead log lies in memory that processes of one machine share.
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs", "9p", "ceph", "lustre", "afs"})
PREPARE = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")

# By whether it is SQLite's: rows that the connection has changed; the transaction's number, which one without changes has not.
CHANGES = {True: "SELECT total_changes()", False: "SELECT CAST(pg_current_xact_id_if_assigned() AS text)"}


@dataclass(frozen=True)
class Database:
    """`write` transactions begin at once as writers (a read that becomes a write fails on SQLite); `read` ones never do.

    file: SQLite's, without which neither begins.
    """

    url: URL
    writer: Engine
    reader: Engine
    file: SqliteFile | None = None
    outages: Outages = field(default_factory=Outages)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        It raises too where it was committed into a file that is not the database any more: nobody may rely on that.
        """
        with self.outages.watched() as proof:
            self._require_file()
            with self.writer.begin() as connection:
                before = self._changes(connection)
                yield connection
                proof.changed = self._changes(connection) != before
            self._require_file()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent look, without keeping a writer out."""
        with self.outages.watched():
            self._require_file()
            with self.reader.connect() as connection:
                yield connection

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()

    def _changes(self, connection: Connection) -> object:
        """What is another once the transaction has changed something; looked up only while that matters."""
        if not self.outages.cannot_write:
            return None
        return connection.execute(text(CHANGES[self.is_sqlite])).scalar()

    def _require_file(self) -> None:
        if self.file is not None:
            self.file.require()


def open_database(address: str, *, may_create: bool = True) -> Database:
    """The database at an address such as sqlite:///jobs.db or postgresql://user@host/name; creates no tables.

    may_create: make SQLite's file where there is none; otherwise that is a database that is away, and may come back.

    Raises InputError for an address that is none, and for SQLite on a network file system, where it loses data.
    """
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InputError("the database URL cannot be read; use for example sqlite:///jobs.db") from None
    if backend == "sqlite":
        return _sqlite(url, may_create)
    if backend == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
        patience = {"connect_timeout": url.query.get("connect_timeout", CONNECT_SECONDS)}
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=20,
            max_overflow=20,
            pool_timeout=10,
            connect_args=patience,
            hide_parameters=True,
        )
        return Database(url, engine, engine)
    raise InputError(f"databases of kind {backend!r} are not supported; use sqlite:///FILE or postgresql://...")


def _sqlite(url: URL, may_create: bool) -> Database:
    if not url.database or url.database == ":memory:" or "mode=memory" in str(url):
        raise InputError("jobs cannot live in a database in memory: workers are other processes; use sqlite:///FILE")
    file = Path(url.database).absolute()
    opened = SqliteFile(file)
    if may_create:
        opened.create()
    if (kind := _file_system(file.parent)) in NETWORK_FILE_SYSTEMS:
        raise InputError(
            f"{file} is on a network file system ({kind}), where SQLite loses data; use a local disk, or PostgreSQL"
        )
    url = url.set(database=str(file))
    # Errors go into logs, and parameters are prompts.
    writer = create_engine(url, pool_size=5, max_overflow=20, hide_parameters=True)
    reader = create_engine(url, pool_size=10, max_overflow=40, hide_parameters=True)
    for engine in (writer, reader):
        event.listen(engine, "do_connect", opened.open_only)
        event.listen(engine, "connect", _prepare)
    event.listen(writer, "begin", _begin_as_writer)
    return Database(url, writer, reader, opened)


def _prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    for pragma in PREPARE:
        connection.execute(pragma)


def _begin_as_writer(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _file_system(folder: Path) -> str:
    import psutil

    parts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(parts, key=lambda part: len(part.mountpoint)).fstype.lower() if parts else ""
