"""One process per output: whoever would make a clip that another process is making learns it before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.files import TEMPORARY_PREFIX, check_target
from phonofilm.process.lock_file import LockOwner, held, holder, sweep_locks

if TYPE_CHECKING:
    # It needs PyTorch, which is imported after names were chosen.
    from phonofilm.parallel.parallel_session import ParallelSession

LOCKS = f"{TEMPORARY_PREFIX}*.lock"


@contextmanager
def reserved(files: Sequence[Path], overwrite: bool, ranks: ParallelSession | None) -> Iterator[None]:
    """Hold the names of files and folders, so that no other process makes them, for as long as the block lasts.

    Of several ranks the first one holds them, and all learn whether it could. Raises InputError when another process makes
    one of them, or has made it since it was chosen.
    """
    with ExitStack() as stack:
        problem: PhonofilmError | None = None
        if ranks is None or ranks.is_first:
            try:
                for file in files:
                    stack.enter_context(_folder_of(file))
                    stack.enter_context(held(_lock_of(file), partial(_refusal, file)))
                    check_target(file, overwrite)
            except PhonofilmError as error:
                problem = error
        if ranks is not None and not ranks.agree(int(problem is None)) and problem is None:
            problem = InputError("the first rank cannot write its output")
        if problem is not None:
            raise problem
        yield


def is_reserved(file: Path) -> bool:
    """Whether a process is making this output at the moment."""
    return holder(_lock_of(file)) is not None


def _lock_of(file: Path) -> Path:
    return file.with_name(f"{TEMPORARY_PREFIX}{file.name}.lock")


def _refusal(file: Path, owner: LockOwner) -> str:
    return f"{file} is being made by {owner}; wait for it or choose another name"


@contextmanager
def _folder_of(file: Path) -> Iterator[None]:
    """The output's folder with no lock left over in it, made if needed; one that stayed empty is removed again."""
    made = [folder for folder in file.absolute().parents if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {file}: its folder cannot be made ({error.strerror})") from error
    sweep_locks(file.parent, LOCKS)
    try:
        yield
    finally:
        with suppress(OSError):  # what was made lies in it
            for folder in made:
                folder.rmdir()
