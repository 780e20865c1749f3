"""Blocks that several processes go through together: when one of them fails, all fail with its message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accelerate.utils import broadcast_object_list
from torch import distributed

from phonofilm.errors import CheckpointError, PhonofilmError
from phonofilm.files import replacing


def raise_together(problem: str | None) -> None:
    """Raise CheckpointError in every process with the first problem that any of them has. Every process calls it."""
    problems: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(problems, problem)
    for number, one in enumerate(problems):
        if one is not None:
            raise CheckpointError(f"{one} (process {number})")


@contextmanager
def on_first_process() -> Iterator[bool]:
    """A block that only process 0 has something to do in (it yields True there); if it fails there, it fails in all."""
    first, problem = distributed.get_rank() == 0, None
    try:
        yield first
    except (PhonofilmError, OSError) as error:
        problem = f"{error}"
    raise_together(problem)


@contextmanager
def replacing_in_all_processes(target: Path) -> Iterator[Path]:
    """As `replacing`, with the same temporary path in every process. A file that several of them write is the same in all."""
    stack, path = ExitStack(), None
    with on_first_process() as first:
        if first:
            path = stack.enter_context(replacing(target))
    try:
        yield Path(broadcast_object_list([None if path is None else str(path)])[0])
    except BaseException:
        stack.__exit__(*sys.exc_info())
        raise
    raise_together(None)  # before it is renamed, everyone has written
    with on_first_process():
        stack.close()
