"""How many threads PyTorch computes with, for the length of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads inside, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def at_most_one_thread(small: bool) -> Iterator[None]:
    """One thread inside where the model is `small`, else no change."""
    with threads(1 if small else torch.get_num_threads()):
        yield
