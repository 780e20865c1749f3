"""One writer per run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phonofilm.process.lock_file import LockOwner, held, holder

LOCK = ".lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder, which is made if needed, for as long as the block lasts.

    Raises InputError, naming the process, when another one trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held(
        folder / LOCK,
        lambda owner: f"{folder} is in use: {owner} trains there; wait for it or name another folder",
    ):
        yield


def training_process(folder: Path) -> LockOwner | None:
    """Who trains in the run folder at this moment, as far as can be known; None for nobody."""
    return holder(folder / LOCK)
