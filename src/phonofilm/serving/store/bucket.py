"""Files of jobs in a bucket (S3 and what speaks its protocol), through obstore. Needs the extra `s3`.

Region, endpoint and credentials come from the usual AWS_ environment variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.serving.store.interface import CHUNK_BYTES, MARKER, NotStored, StoreError, checked_name

# For so long a request is repeated that was not answered: its client waits meanwhile. The default is three minutes.
RETRY_TIME = timedelta(seconds=30)


class BucketStore:
    """A store in an obstore object store."""

    def __init__(self, objects: Any) -> None:
        self.objects = objects

    @classmethod
    def from_url(cls, url: str) -> BucketStore:
        """A bucket at s3://NAME/PREFIX. Raises InputError when the address cannot be used."""
        try:
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError as error:
            raise MissingExtraError("obstore", "s3") from error
        try:
            return cls(S3Store.from_url(url, retry_config={"retry_timeout": RETRY_TIME}))
        except (BaseError, ValueError) as error:
            raise InputError(f"cannot use the store {url}: {error}") from error

    def mark(self) -> str:
        try:
            with _faults(MARKER):
                return bytes(self.objects.get(MARKER).bytes()).decode(errors="replace").strip()
        except NotStored:
            return ""

    def set_mark(self, mark: str) -> None:
        with _faults(MARKER):
            self.objects.put(MARKER, f"{mark}\n".encode())

    def put(self, name: str, file: Path) -> None:
        with _faults(name):
            self.objects.put(checked_name(name), file)

    def size(self, name: str) -> int:
        with _faults(name):
            return int(self.objects.head(checked_name(name))["size"])

    def read(self, name: str, start: int, length: int) -> Iterator[bytes]:
        while length > 0:
            wanted = min(CHUNK_BYTES, length)
            with _faults(name):
                piece = bytes(self.objects.get_range(checked_name(name), start=start, length=wanted))
            if piece:
                yield piece
            if len(piece) < wanted:  # the end; S3 refuses a range that begins there
                return
            start, length = start + wanted, length - wanted

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="phonofilm-") as folder:
            path = Path(folder) / checked_name(name).rpartition("/")[2]
            with path.open("wb") as stream:
                for piece in self.read(name, 0, self.size(name)):
                    stream.write(piece)
            yield path

    def copy(self, name: str, target: str) -> None:
        with _faults(name):
            self.objects.copy(checked_name(name), checked_name(target))

    def delete(self, name: str) -> None:
        try:
            with _faults(name):
                self.objects.delete(checked_name(name))
        except NotStored:
            return

    def clear(self, kind: str, job_id: str) -> None:
        for name in self.files(kind, job_id):
            self.delete(name)

    def folders(self, kind: str) -> list[tuple[str, float]]:
        newest: dict[str, float] = {}
        for entry in self._entries(f"{kind}/"):
            job_id = str(entry["path"]).split("/")[1]
            newest[job_id] = max(newest.get(job_id, 0.0), entry["last_modified"].timestamp())
        return list(newest.items())

    def files(self, kind: str, job_id: str) -> list[str]:
        return [str(entry["path"]) for entry in self._entries(f"{kind}/{job_id}/")]

    def _entries(self, prefix: str) -> Iterator[Any]:
        with _faults(prefix):
            for batch in self.objects.list(prefix):
                yield from batch


@contextmanager
def _faults(name: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise NotStored(f"{name} is not in the store") from error
    except (BaseError, OSError) as error:
        raise StoreError(f"{name} cannot be reached in the store: {error}") from error
