"""One process at a time: a lock file that says which process holds it, and is taken over when that one is gone."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.untrusted import NO_FILE_FAULT, file_fault, parse_json

MOST_CHARACTERS = 4096
GRACE = 2.0
"""Seconds after which a lock that nobody can read is taken for a leftover."""


@dataclass(frozen=True)
class LockOwner:
    """The process that holds a lock. `started`: seconds since 1970, tells it from a later one of the same number."""

    pid: int
    host: str
    started: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        return (self.pid, self.host) == (os.getpid(), socket.gethostname())

    @property
    def is_gone(self) -> bool:
        """Whether it certainly no longer runs, which can be known on its own machine only."""
        if self.host != socket.gethostname():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 2.0
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


@contextmanager
def held(path: Path, refusal: Callable[[LockOwner], str]) -> Iterator[None]:
    """Hold the lock file `path`, in a folder that exists, for as long as the block lasts.

    A process that holds it already may enter again. A lock whose process no longer runs is taken over. Raises InputError
    with the words of `refusal` when another process holds it.
    """
    mine = LockOwner(os.getpid(), socket.gethostname(), psutil.Process().create_time())
    while not _create(path, mine):
        text, owner = _read(path)
        if owner is not None and owner.is_here:
            yield
            return
        if text is None:  # released between the two looks
            continue
        if owner is None and _age(path) < GRACE:  # its process may be writing it at this moment
            time.sleep(0.05)
            continue
        if owner is not None and not owner.is_gone:
            raise InputError(f"{refusal(owner)} (if that process is gone, delete {path})")
        _discard(path, text)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def holder(path: Path) -> LockOwner | None:
    """Who holds the lock at this moment, as far as can be known; None for nobody."""
    owner = _read(path)[1]
    return None if owner is None or owner.is_gone else owner


def sweep_locks(folder: Path, pattern: str) -> None:
    """Remove the locks in `folder`, whose names match, of processes that no longer run."""
    for path in folder.glob(pattern):
        with suppress(InputError, OSError):  # another process may be sweeping too
            text, owner = _read(path)
            if text is not None and owner is not None and owner.is_gone:
                _discard(path, text)


def _create(path: Path, owner: LockOwner) -> bool:
    """Whether the lock is ours now."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(asdict(owner)))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise PhonofilmError(f"cannot write {path}: {error.strerror}; nothing was kept") from error
    return True


def _read(path: Path) -> tuple[str | None, LockOwner | None]:
    """The lock's text, and the owner it names: None for no lock, and for one that nobody can read."""
    fault = file_fault(path)
    if fault == NO_FILE_FAULT:
        return None, None
    if fault is not None:
        raise InputError(f"{path} should be a file that says which process is at work there, but {fault}; delete it")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MOST_CHARACTERS)
    except FileNotFoundError:
        return None, None
    with suppress(ValueError, TypeError):
        owner = LockOwner(**parse_json(text))
        if isinstance(owner.pid, int) and 0 < owner.pid < 2**31 and isinstance(owner.started, int | float):
            return text, owner
    return text, None


def _age(path: Path) -> float:
    """Seconds since the lock was written; 0 when it has just gone."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _discard(path: Path, text: str) -> None:
    """Remove the lock if it is still the one that was read: another process may have taken it over meanwhile."""
    aside = path.with_name(f"{path.name}-stale-{os.getpid()}-{time.monotonic_ns()}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside)[0] != text and not path.exists():
            aside.rename(path)
        else:
            aside.unlink()
