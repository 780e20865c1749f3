"""What a store of files must be able to do: a folder on this machine, or a bucket. Names look like outputs/JOB/1-0.mp4."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from phonofilm.errors import InputError, PhonofilmError

INPUTS, OUTPUTS = "inputs", "outputs"
MARKER = ".phonofilm-store"  # what a store was marked with
STORE_NAME = re.compile(r"(?:inputs|outputs)/[A-Za-z0-9_]{1,64}/[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
CHUNK_BYTES = 2**20


class StoreError(PhonofilmError):
    """A file could not be stored or read: the disk is full, or the store is gone."""


class NotStored(StoreError):
    """There is no such file in the store."""


class Store(Protocol):
    """Files by name. Writing is whole or not at all; every method raises StoreError when the store cannot be used."""

    def mark(self) -> str:
        """What the store was marked with, whoever opens it and by whatever address; "" for one that is new."""

    def set_mark(self, mark: str) -> None:
        """Mark a new store."""

    def put(self, name: str, file: Path) -> None:
        """Keep a copy of the file under this name."""

    def size(self, name: str) -> int:
        """Bytes of a stored file. Raises NotStored."""

    def read(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """A part of a file, piece by piece. Raises NotStored."""

    def as_file(self, name: str) -> AbstractContextManager[Path]:
        """The stored file as one on this machine, to be read only, as long as the block lasts. Raises NotStored."""

    def copy(self, name: str, target: str) -> None:
        """Keep the same file under another name too."""

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens when it is not there."""

    def clear(self, kind: str, job_id: str) -> None:
        """Remove all that is there of a job, also what was left half-written; nothing happens when there is nothing."""

    def folders(self, kind: str) -> list[tuple[str, float]]:
        """The jobs that have files under inputs or outputs, each with the newest file's time (seconds since 1970)."""

    def files(self, kind: str, job_id: str) -> list[str]:
        """The full names of a job's files."""


def checked_name(name: str) -> str:
    """The name itself. Raises StoreError for one that could lead out of the store."""
    if STORE_NAME.fullmatch(name) is None or ".." in name:
        raise StoreError(f"{name!r:.200} is no name of a stored file")
    return name


def open_store(place: str) -> Store:
    """The store at a folder, or at s3://bucket/prefix (extra s3).

    Raises InputError for an address of neither, StoreError where there can be none.
    """
    from phonofilm.serving.store.bucket import BucketStore
    from phonofilm.serving.store.folder_store import FolderStore

    if re.match("s3://[^/]", place):
        return BucketStore.from_url(place)
    if "://" in place or place.startswith("s3:"):
        raise InputError(f"the store {place!r} is neither a folder nor s3://BUCKET/PREFIX")
    return FolderStore(Path(place))
