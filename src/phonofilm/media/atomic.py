"""Writing all or nothing: a temporary name beside the target, then one rename. Nothing here knows what is written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phonofilm.errors import InputError, MediaError

PREFIX = ".phonofilm-"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder; on success it takes the target's name, otherwise it is removed.

    The block writes a file or a folder there. Missing parent folders are made. Errors of the system become a MediaError
    that names the target (libav's are translated by `writing` in container.py); an interrupt leaves nothing behind either.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot write {target}: its folder cannot be made ({error.strerror})") from error
    temporary = target.with_name(f"{PREFIX}{secrets.token_hex(6)}.part")
    try:
        yield temporary
        _settle(temporary)
        _move(temporary, target)
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"cannot write {target}: {reason}; nothing was kept") from error
    finally:
        _remove(temporary)


def check_target(target: Path, overwrite: bool) -> None:
    """Raises InputError when the target may not be replaced: it exists and overwrite is off, or it is no plain file."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InputError(f"{target} exists already; choose another name or allow overwriting")
    if not (target.is_file() or target.is_dir()):
        raise InputError(f"{target} is neither a file nor a folder; choose another name")


def _settle(path: Path) -> None:
    """Force the bytes to the disk, so that a crash after the rename cannot leave an empty file under the final name."""
    for part in [*path.iterdir(), path] if path.is_dir() else [path]:
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _move(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        os.replace(temporary, target)
        return
    old = target.with_name(f"{PREFIX}{secrets.token_hex(6)}.old")
    os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
