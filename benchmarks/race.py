"""The race: contestants in turn, round after round, so that a machine whose speed swings treats all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.contestants import Contestant, Running
from benchmarks.limits import Limits, measure_limits, timed
from benchmarks.workload import Workload, largest_difference
from phonofilm.models.joint import JointOutput

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """One contestant's figures.

    seconds: of a step, the median over all. ratio: to the first contestant's, the median over rounds. limit_seconds: no
    step can be faster. peak_bytes: most device memory in use at once (None where the device is the host).
    difference: of its velocities from the first contestant's; 0.0 is bit-identical. error: why it could not run.
    """

    name: str
    what: str
    ours: bool
    seconds: float | None = None
    ratio: float | None = None
    limit_seconds: float | None = None
    peak_bytes: int | None = None
    streamed_bytes: int = 0
    difference: float | None = None
    error: str | None = None


@dataclass
class _Tally:
    rounds: list[float]
    peak: int | None = None
    streamed: int = 0
    fp8_flops: int = 0
    output: list[Tensor] | None = None
    error: str | None = None


@torch.no_grad()
def race(
    workload: Workload, contestants: Sequence[Contestant], rounds: int, steps: int, progress: Progress
) -> tuple[Limits, list[Result]]:
    """Run every contestant `rounds` times for `steps` timed steps after one that warms it up.

    One that runs out of memory, or cannot run here, is listed with its error; the others go on.
    """
    limits = measure_limits(workload)
    tallies = {contestant.name: _Tally([]) for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            tally = tallies[contestant.name]
            progress(contestant.name, number, rounds)
            if tally.error is None:
                _take_turn(workload, contestant, steps, tally)
        progress("", number + 1, rounds)
    first = next((tallies[c.name] for c in contestants if tallies[c.name].error is None), None)
    return limits, [
        _result(workload, contestant, tallies[contestant.name], first, limits) for contestant in contestants
    ]


def _take_turn(workload: Workload, contestant: Contestant, steps: int, tally: _Tally) -> None:
    on_gpu = workload.device.type == "cuda"
    try:
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(workload.device)
        with contestant.run(workload) as running:
            tally.output = _velocities(running.step())
            tally.rounds.append(_median_step(running, steps, workload.device))
            tally.streamed, tally.fp8_flops = running.streamed_bytes, running.fp8_flops
        if on_gpu:
            tally.peak = torch.cuda.max_memory_allocated(workload.device)
    # A contestant that cannot run here, for want of memory, a kernel or a library, is a row of the table that says why.
    except (RuntimeError, ValueError, ImportError, NotImplementedError) as error:
        tally.error = str(error).splitlines()[0] if str(error) else type(error).__name__


def _median_step(running: Running, steps: int, device: torch.device) -> float:
    return statistics.median(timed(running.step, device) for _ in range(steps))


def _velocities(outputs: list[JointOutput]) -> list[Tensor]:
    return [tensor.cpu() for output in outputs for tensor in (output.video, output.audio)]


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
        streamed_bytes=tally.streamed,
        difference=largest_difference(tally.output, first.output),
    )
