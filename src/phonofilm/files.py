"""Files and folders written whole or not at all, and their hashes. What is in them is not known here.

A temporary name says who writes it: `.phonofilm-HOST-PID-RANDOM.part`. What a process left behind that was killed is
removed by the next one that writes into the same folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from phonofilm.errors import InputError, MediaError, PhonofilmError
from phonofilm.untrusted import FOLDER_FAULT, file_fault, shown

TEMPORARY_PREFIX = ".phonofilm-"
READ_BYTES = 8 * 2**20
_LEFTOVER = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{12}}\.(part|old)(.*)")


@contextmanager
def replacing(target: Path, *, error: type[PhonofilmError] = MediaError, keep_suffix: bool = False) -> Iterator[Path]:
    """A temporary path in the target's folder; on success it takes the target's name, otherwise it is removed.

    The block writes a file or a folder there; its bytes are on the disk before it is renamed. Missing parent folders are
    made. Errors of the system become an `error` that names the target; an interrupt leaves nothing behind either.

    Args:
        keep_suffix: the temporary name ends like the target's, for writers that go by it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"cannot write {target}: its folder cannot be made ({problem.strerror})") from problem
    _sweep_once(target.parent.absolute())
    temporary = target.with_name(_temporary_name("part") + (target.suffix if keep_suffix else ""))
    try:
        yield temporary
        _sync(temporary)
        _move(temporary, target)
    except OSError as problem:
        raise error(f"cannot write {target}: {problem.strerror or problem}; nothing was kept") from problem
    finally:
        _remove(temporary)


def check_target(target: Path, overwrite: bool) -> None:
    """Raises InputError when the target is there and overwrite is off, and when it can never be replaced."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InputError(
            f"{target} exists already; choose another name, or replace it (--overwrite, in Python overwrite=True)"
        )
    if not (target.is_file() or target.is_dir()):
        raise InputError(f"{target} is neither a file nor a folder; choose another name")


def sweep(folder: Path) -> None:
    """Remove what processes of this host that no longer run left half-written in `folder`.

    A folder that was moved aside, and whose successor never took its place, gets its name back.
    """
    for entry in os.listdir(folder):
        match = _LEFTOVER.fullmatch(entry)
        if match is None or match[1] != _host() or _is_running(int(match[2])):
            continue
        path, name = folder / entry, match[4].removeprefix("-")
        with contextlib.suppress(OSError):  # another process may be sweeping too
            if match[3] == "old" and not os.path.lexists(folder / name):
                os.rename(path, folder / name)
            else:
                _remove(path)


def file_hash(path: Path, progress: Callable[[int], None] = lambda nbytes: None) -> str:
    """SHA-256 (64 hexadecimal digits) of a file, or of the names and contents of all files in a folder.

    `progress` is called with the bytes of every chunk read. Raises InputError when a file cannot be read.
    """
    digest = hashlib.sha256()
    fault = file_fault(path)
    if fault not in (None, FOLDER_FAULT):
        raise InputError(f"{shown(path)} cannot be read: {fault}")
    for file in sorted(file for file in path.rglob("*") if file.is_file()) if fault else [path]:
        if fault:
            digest.update(file.relative_to(path).as_posix().encode())
        try:
            for chunk in read_chunks(file):
                digest.update(chunk)
                progress(len(chunk))
        except OSError as problem:
            raise InputError(f"{file} cannot be read: {problem.strerror}") from problem
    return digest.hexdigest()


def read_chunks(file: Path) -> Iterator[bytes]:
    """The bytes of a file, READ_BYTES at a time."""
    with file.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            yield chunk


@lru_cache(maxsize=256)
def _sweep_once(folder: Path) -> None:
    """`sweep`, at the first write into a folder only: a cache of many files would be listed for each of them."""
    with contextlib.suppress(OSError):  # a folder that cannot be listed can still be written to
        sweep(folder)


def _temporary_name(kind: str) -> str:
    return f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(6)}.{kind}"


def _host() -> str:
    """A process's number says nothing on another machine, which may share the folder."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync(path: Path) -> None:
    """Force the bytes to the disk, so that a crash after the rename cannot leave an empty file under the final name."""
    for part in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if part.is_symlink():
            continue
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _move(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        os.replace(temporary, target)
        return
    old = target.with_name(f"{_temporary_name('old')}-{target.name}")
    os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(old, target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """A file, a folder with all that is in it, or a link (and not what it leads to)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
