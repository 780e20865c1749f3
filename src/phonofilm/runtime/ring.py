"""A ring of slots that weights pass through: what is copied where, and what waits for what. It has no tensors and no model in it.

The copy queue waits until a slot is free, copies, and records that the slot is ready. The compute queue waits for that,
computes, and records that the slot is free. The host never waits: the events are the back-pressure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from phonofilm.errors import InputError
from phonofilm.runtime.backends import Queue, Queues

Key = TypeVar("Key")

SLOTS = 2
"""Slots that suffice to copy one layer while another computes: what everything that streams uses by default."""


class Ring(Generic[Key]):
    """`slots` slots. `fetch(key, slot)` gives the copy queue what brings `key` into a slot; it may raise."""

    def __init__(self, slots: int, queues: Queues, fetch: Callable[[Key, int], None]) -> None:
        if slots < 1:
            raise InputError(
                f"a ring of {slots} slots cannot hold a layer; use at least 1, and 2 to copy while computing"
            )
        self._queues = queues
        self._fetch = fetch
        self._ready = [queues.event() for _ in range(slots)]
        self._free = [queues.event() for _ in range(slots)]
        self._idle = deque(range(slots))
        self._ahead: deque[tuple[Key, int]] = deque()
        self._upcoming: deque[Key] = deque()

    def expect(self, order: Sequence[Key], following: Sequence[Key] = ()) -> None:
        """Say what will be used next, in `order`, and what probably after that; copies start at once.

        What was fetched ahead is kept if it is what `order` starts with. If the guess was wrong it is fetched over.
        """
        expected = [*order, *following]
        if [key for key, _ in self._ahead] != expected[: len(self._ahead)]:
            # A copy still under way into such a slot is harmless: the copy queue keeps its order.
            self._idle.extend(slot for _, slot in self._ahead)
            self._ahead.clear()
        self._upcoming = deque(expected[len(self._ahead) :])
        self._fetch_ahead()

    @contextmanager
    def use(self, key: Key) -> Iterator[int]:
        """The slot that holds `key`, the next in order, for what is given to the compute queue inside the context."""
        fetched, slot = self._ahead.popleft()
        assert fetched == key, f"{key} is used when {fetched} was expected"
        self._queues.wait(self._ready[slot], Queue.COMPUTE)
        try:
            yield slot
        finally:
            self._queues.record(self._free[slot], Queue.COMPUTE)
            self._idle.append(slot)
        self._fetch_ahead()

    def _fetch_ahead(self) -> None:
        while self._idle and self._upcoming:
            key, slot = self._upcoming[0], self._idle[0]
            self._queues.wait(self._free[slot], Queue.COPY)
            self._fetch(key, slot)
            self._queues.record(self._ready[slot], Queue.COPY)
            self._idle.popleft()
            self._upcoming.popleft()
            self._ahead.append((key, slot))
