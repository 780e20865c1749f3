"""The ring against a simulated clock: how long a forward takes when layers take this long to compute and that to copy.

The planner's estimate and the ring's tests use it; no weights, no device, no real time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from phonofilm.runtime.backends import Queue
from phonofilm.runtime.ring import Ring

Interval = tuple[float, float]


@dataclass
class SimulatedEvent:
    """When it happened, in seconds; 0 until it is recorded."""

    at: float = 0.0


class SimulatedQueues:
    """Two queues whose work takes the seconds it is said to take."""

    def __init__(self) -> None:
        self.busy_until = dict.fromkeys(Queue, 0.0)

    def event(self) -> SimulatedEvent:
        return SimulatedEvent()

    def record(self, event: SimulatedEvent, queue: Queue) -> None:
        event.at = self.busy_until[queue]

    def wait(self, event: SimulatedEvent, queue: Queue) -> None:
        self.busy_until[queue] = max(self.busy_until[queue], event.at)

    def work(self, queue: Queue, seconds: float) -> Interval:
        start = self.busy_until[queue]
        self.busy_until[queue] = start + seconds
        return start, start + seconds


@dataclass(frozen=True)
class Pass:
    """One streamed layer's way through a slot: when it was copied in and when it was computed with."""

    layer: int
    slot: int
    copied: Interval
    computed: Interval


@dataclass(frozen=True)
class Trace:
    """What happened: every pass in order, and when the last layer was done."""

    passes: tuple[Pass, ...]
    makespan: float


def simulate(compute: Sequence[float], copy: Sequence[float | None], slots: int, forwards: int = 1) -> Trace:
    """Run the ring `forwards` times through the layers.

    compute: seconds of each layer. copy: seconds to fetch each layer, None for one that is always on the device.
    """
    queues = SimulatedQueues()
    copied: dict[int, Interval] = {}
    passes: list[Pass] = []

    def fetch(layer: int, slot: int) -> None:
        copied[slot] = queues.work(Queue.COPY, copy[layer] or 0.0)

    ring = Ring(slots, queues, fetch)
    streamed = [layer for layer, seconds in enumerate(copy) if seconds is not None]
    for _ in range(forwards):
        ring.expect(streamed, following=streamed)
        for layer, seconds in enumerate(compute):
            with nullcontext() if copy[layer] is None else ring.use(layer) as slot:
                computed = queues.work(Queue.COMPUTE, seconds)
                if slot is not None:
                    passes.append(Pass(layer, slot, copied[slot], computed))
    return Trace(tuple(passes), queues.busy_until[Queue.COMPUTE])
