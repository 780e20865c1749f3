"""What a run will take, from what was measured of it: memory, disk, seconds. Arithmetic and its table only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from phonofilm.training.config.training_config import LoopConfig
from phonofilm.units import format_duration, format_gigabytes

DRIVER = 600_000_000
"""Bytes a CUDA context and its libraries take beside what is allocated: an assumption, as in `phonofilm.runtime.memory_plan`."""
BEST = 3


@dataclass(frozen=True)
class UpdateCost:
    """One kind of update, of the whole model or of a shallower one: seconds of a micro-step and of the optimizer, bytes it
    needs at its worst beside weights and optimizer state, and bytes of optimizer state per byte of trained weights."""

    micro_seconds: float
    step_seconds: float
    peak: int
    state_per_weight: float


@dataclass(frozen=True)
class HookCost:
    """One call of a hook: its seconds, bytes of memory and of files; `every` so many updates."""

    name: str
    every: int
    seconds: float
    peak: int
    files: int


@dataclass(frozen=True)
class WarmStartCost:
    """Clips of the teacher that are still to be made before a distillation: how many, the seconds and the bytes of files."""

    clips: int
    seconds: float
    files: int


@dataclass(frozen=True)
class Estimate:
    """The dry run's result.

    Attributes:
        base, host_base: bytes held on the device and in host memory once everything is loaded.
        trained, persistent: bytes of the trained weights, and of optimizer state and average.
        updates, shares: cost and relative frequency of each kind of micro-batch (bucket).
        parts: processes of which each has a part of the trained weights; `trained` and `persistent` are one's.
        around_seconds: of every update beside them: the running average, and bringing the other expert.
        warm_start: what is made before the first update, if anything.
    """

    device: str
    base: int
    host_base: int
    trained: int
    persistent: int
    updates: Mapping[str, UpdateCost]
    shares: Mapping[str, float]
    around_seconds: float
    accumulate: int
    looks: tuple[HookCost, ...]
    config: LoopConfig
    parts: int = 1
    warm_start: WarmStartCost | None = None

    @property
    def peak(self) -> int:
        """Bytes of device memory (of the process's resident memory on a CPU) at the run's worst moment."""
        update = max(cost.peak for cost in self.updates.values())
        # While a hook runs, the trained weights are kept twice; a checkpoint is read back while they are.
        looking = self.trained + max((look.peak for look in self.looks), default=0)
        saving = 0 if self.device == "cuda" else 2 * self.trained
        driver = DRIVER if self.device == "cuda" else 0
        return self.base + self.persistent + max(update, looking, saving) + driver

    @property
    def host_peak(self) -> int:
        """Bytes of host memory. On a CPU, the same as `peak`."""
        if self.device != "cuda":
            return self.peak
        return self.host_base + 3 * self.trained + self.persistent

    @property
    def disk(self) -> int:
        """Bytes the run leaves at its largest: checkpoints with one being written, the best ones, samples, a warm start."""
        average = self.trained if self.config.ema_decay else 0
        checkpoint = self.persistent + self.trained
        best = BEST * (average or self.trained) if any(look.name == "validation" for look in self.looks) else 0
        updates = self.count_updates()
        samples = sum(look.files * self.calls(look, updates) for look in self.looks) if updates else 0
        states = 0 if self.warm_start is None else self.warm_start.files
        return self.parts * (checkpoint * (self.config.keep_last + 1) + best) + samples + states

    @property
    def seconds_per_update(self) -> float:
        """Mean over the kinds of micro-batches."""
        total = sum(self.shares.values())
        return sum(self.seconds_of(name) * share / total for name, share in self.shares.items())

    def seconds_of(self, name: str) -> float:
        """An update of micro-batches of one kind."""
        cost = self.updates[name]
        return self.accumulate * cost.micro_seconds + cost.step_seconds + self.around_seconds

    def count_updates(self) -> int:
        """How many updates the run will make: `max_steps`, or fewer if its time is over before."""
        by_steps, budget = self.config.max_steps, self.config.budget_seconds
        if budget is None:
            assert by_steps is not None
            return by_steps
        looking = sum(look.seconds / look.every for look in self.looks)
        by_time = int(budget / (self.seconds_per_update + looking))
        return by_time if by_steps is None else min(by_steps, by_time)

    def calls(self, look: HookCost, updates: int) -> int:
        """At the start, every so many updates, and at the end."""
        return 1 + updates // look.every + (1 if updates % look.every else 0)

    @property
    def total_seconds(self) -> float:
        updates = self.count_updates()
        looking = sum(look.seconds * self.calls(look, updates) for look in self.looks)
        before = 0.0 if self.warm_start is None else self.warm_start.seconds
        return before + updates * self.seconds_per_update + looking

    def lines(self) -> list[tuple[str, str]]:
        """(what, how much) for a table."""
        updates = self.count_updates()
        memory = [("resident memory", format_gigabytes(self.peak))]
        if self.device == "cuda":
            memory = [("device memory", format_gigabytes(self.peak)), ("host memory", format_gigabytes(self.host_peak))]
        rows = [*memory, ("disk", format_gigabytes(self.disk)), ("one update", f"{self.seconds_per_update:.3g} s")]
        if len(self.updates) > 1:
            rows += [(f"  {name}", f"{self.seconds_of(name):.3g} s") for name in self.updates]
        if (warm := self.warm_start) is not None:
            rows.append(("warm start", f"{warm.clips} clips of the teacher, {format_duration(warm.seconds)}"))
        for look in self.looks:
            count = self.calls(look, updates)
            rows.append((look.name, f"{count} x {look.seconds:.3g} s"))
        return [*rows, ("whole run", f"{updates} updates, {format_duration(self.total_seconds)}")]
