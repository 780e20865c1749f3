"""Files of jobs in a folder of this machine (or one that all machines mount)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phonofilm.files import replacing
from phonofilm.serving.store.interface import CHUNK_BYTES, MARKER, NotStored, StoreError, checked_name


class FolderStore:
    """A store in `root`, which is made if it is not there, readable by its owner alone. Raises StoreError where it cannot be.

    A file in it marks it: where a disk was unmounted, its empty mount point lies in its place, and files that were kept there
    would be hidden when it comes back.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.root / MARKER).touch(mode=0o600)
        except OSError as error:
            raise StoreError(f"cannot use {root} as a store: {error.strerror}; name another folder") from error

    def mark(self) -> str:
        try:
            return (self.root / MARKER).read_text(errors="replace").strip()
        except OSError as error:
            raise self._fault(MARKER, error) from error

    def set_mark(self, mark: str) -> None:
        with replacing(self.root / MARKER, error=StoreError) as temporary:
            temporary.write_text(f"{mark}\n")

    def put(self, name: str, file: Path) -> None:
        self._require_there()
        with self._placing(name) as temporary:
            shutil.copyfile(file, temporary)

    def size(self, name: str) -> int:
        try:
            return self._path(name).stat().st_size
        except OSError as error:
            raise self._fault(name, error) from error

    def read(self, name: str, start: int, length: int) -> Iterator[bytes]:
        try:
            with self._path(name).open("rb") as stream:
                stream.seek(start)
                while length > 0 and (chunk := stream.read(min(CHUNK_BYTES, length))):
                    length -= len(chunk)
                    yield chunk
        except OSError as error:
            raise self._fault(name, error) from error

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        path = self._path(name)
        if not path.is_file():
            self._require_there()
            raise NotStored(f"{name} is not in the store")
        yield path

    def copy(self, name: str, target: str) -> None:
        with self.as_file(name) as file, self._placing(target) as temporary:
            try:
                os.link(file, temporary)
            except OSError:  # a file system without links
                shutil.copyfile(file, temporary)

    def delete(self, name: str) -> None:
        self._require_there()
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
            _remove_if_empty(path.parent)
        except OSError as error:
            raise self._fault(name, error) from error

    def clear(self, kind: str, job_id: str) -> None:
        self._require_there()
        try:
            shutil.rmtree(self.root / kind / job_id)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._fault(f"{kind}/{job_id}", error) from error

    def folders(self, kind: str) -> list[tuple[str, float]]:
        try:
            return [(folder.name, folder.stat().st_mtime) for folder in (self.root / kind).iterdir()]
        except FileNotFoundError:
            self._require_there()
            return []

    def files(self, kind: str, job_id: str) -> list[str]:
        folder = self.root / kind / job_id
        try:
            return [f"{kind}/{job_id}/{file.name}" for file in folder.iterdir() if not file.name.startswith(".")]
        except FileNotFoundError:
            self._require_there()
            return []

    @contextmanager
    def _placing(self, name: str) -> Iterator[Path]:
        """A temporary path that takes the name's place; where it cannot, the folder that was made for it goes too."""
        path = self._path(name)
        try:
            with replacing(path, error=StoreError) as temporary:
                yield temporary
        except BaseException:
            with suppress(OSError):
                _remove_if_empty(path.parent)
            raise

    def _path(self, name: str) -> Path:
        return self.root / checked_name(name)

    def _require_there(self) -> None:
        """Raises StoreError where the folder is not the one that was opened."""
        try:
            (self.root / MARKER).stat()
        except OSError as error:
            raise StoreError("the store is away: its folder was moved or unmounted, or cannot be reached") from error

    def _fault(self, name: str, error: OSError) -> StoreError:
        if isinstance(error, FileNotFoundError):
            self._require_there()
            return NotStored(f"{name} is not in the store")
        return StoreError(f"{name} cannot be read: {error.strerror}")


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
