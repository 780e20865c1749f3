"""The race: contestants in turn, round after round, so that a machine whose speed swings treats all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import torch
from torch import Tensor

from benchmarks.contestants import Contestant
from benchmarks.limits import Limits, measure_limits
from benchmarks.rows import Rows
from benchmarks.timing import forget_peak, peak_bytes, timed
from benchmarks.workload import Workload, largest_difference, velocities

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """One contestant's figures.

    seconds: of a step, the median over all. ratio: to the first contestant's, the median over rounds. limit_seconds: no
    step can be faster. peak_bytes: most device memory in use at once (None where the device is the host); reserved_bytes:
    the same with what the allocator held besides.
    difference: of its velocities from the first contestant's; 0.0 is bit-identical. error: why it could not run.
    """

    name: str
    what: str
    ours: bool
    seconds: float | None = None
    ratio: float | None = None
    limit_seconds: float | None = None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    streamed_bytes: int = 0
    difference: float | None = None
    error: str | None = None


@dataclass
class _Tally:
    rounds: list[float]
    peak: int | None = None
    reserved: int | None = None
    streamed: int = 0
    fp8_flops: int = 0
    output: list[Tensor] | None = None
    error: str | None = None


@torch.no_grad()
def race(
    workload: Workload,
    contestants: Sequence[Contestant],
    rounds: int,
    steps: int,
    progress: Progress,
    rows: Rows | None = None,
) -> tuple[Limits, list[Result]]:
    """Run every contestant `rounds` times for `steps` timed steps after one that warms it up.

    One that runs out of memory, or cannot run here, is listed with its error; the others go on. Limits, every turn and
    every result are in `rows`, if given, as soon as they are known.
    """
    limits = measure_limits(workload)
    write = (lambda row: None) if rows is None else rows.add
    write({"row": "limits", "started": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(limits)})
    tallies = {contestant.name: _Tally([]) for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            tally = tallies[contestant.name]
            progress(contestant.name, number, rounds)
            if tally.error is None:
                _take_turn(workload, contestant, steps, tally)
                seconds = tally.rounds[-1] if tally.error is None else None
                turn = {"name": contestant.name, "round": number + 1, "seconds": seconds, "error": tally.error}
                write({"row": "turn", **turn})
        progress("", number + 1, rounds)
    first = next((tallies[c.name] for c in contestants if tallies[c.name].error is None), None)
    results = [_result(workload, contestant, tallies[contestant.name], first, limits) for contestant in contestants]
    for result in results:
        write({"row": "result", **asdict(result)})
    return limits, results


def _take_turn(workload: Workload, contestant: Contestant, steps: int, tally: _Tally) -> None:
    device = workload.device
    try:
        workload.move_weights(contestant.home(device))
        forget_peak(device)
        with contestant.run(workload) as running:
            tally.output = velocities(running.step(workload))
            tally.rounds.append(statistics.median(timed(lambda: running.step(workload), device) for _ in range(steps)))
            tally.streamed, tally.fp8_flops = running.streamed_bytes, running.fp8_flops
        peak = peak_bytes(device)
        tally.peak, tally.reserved = peak.get("allocated_bytes"), peak.get("reserved_bytes")
    # A contestant that cannot run here, for want of memory, of pages to pin, of a kernel or a library, is a row that says why.
    except Exception as error:  # noqa: BLE001 - a driver, a compiler or a library may fail in any way
        tally.error = str(error).splitlines()[0] if str(error) else type(error).__name__


def _result(workload: Workload, contestant: Contestant, tally: _Tally, first: _Tally | None, limits: Limits) -> Result:
    who = contestant.name, contestant.what, contestant.ours
    if tally.error is not None or first is None:
        return Result(*who, error=tally.error)
    assert tally.output is not None
    assert first.output is not None
    ratios = [mine / its for mine, its in zip(tally.rounds, first.rounds, strict=True)]
    return Result(
        *who,
        seconds=statistics.median(tally.rounds),
        ratio=statistics.median(ratios),
        limit_seconds=limits.seconds(workload.flops, tally.streamed, tally.fp8_flops),
        peak_bytes=tally.peak,
        reserved_bytes=tally.reserved,
        streamed_bytes=tally.streamed,
        difference=largest_difference(tally.output, first.output),
    )
