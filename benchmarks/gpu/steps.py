"""A guided step of the whole model: by PyTorch's operations, by fused kernels, compiled; and a forward at 720p."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.contestants import Contestant, Ours
from benchmarks.gpu.context import Context
from benchmarks.gpu.stages import Skipped
from benchmarks.sizes import SIZES
from benchmarks.timing import forget_peak, peak_bytes, synchronize, timed
from benchmarks.workload import EVALUATIONS, Workload, relative_errors, velocities
from phonofilm.models.joint import JointOutput


def eager(context: Context) -> None:
    """All weights on the device, PyTorch's operations: what every other way is compared with."""
    measure(context, Contestant("resident eager", "", True, Ours()), keep="eager")


def fused(context: Context) -> None:
    """The same with fused kernels, which is what a card with enough memory runs by default."""
    measure(context, Contestant(f"resident {context.way}", "", True, Ours(fused=context.on_gpu)), steps=2, keep="fused")


def compiled(context: Context) -> None:
    """Layers through torch.compile."""
    if not context.on_gpu and not context.job.named:
        raise Skipped("compiling takes a host minutes; it is done when the stage is named")
    # Straight on the clip: after a short one its shapes would be compiled again, for any length.
    measure(context, Contestant("resident compiled", "", True, Ours(compiles=True)), short_steps=None)


@torch.no_grad()
def one_forward_720p(context: Context) -> None:
    """One of a step's two forwards, which are the same work: a whole step would take a minute and a half."""
    work = context.workload(context.device).at(SIZES["micro" if context.tiny else "720p"])
    work = replace(work, conditionings=work.conditionings[:1])
    forget_peak(context.device)
    with Ours(fused=context.on_gpu)(work) as running:
        seconds = timed(lambda: running.step(work), context.device)
    figures = {"seconds": seconds, "s_step": EVALUATIONS * seconds, "flops_s": work.flops / EVALUATIONS / seconds}
    context.row(f"one forward at 720p, resident {context.way}", {**figures, **peak_bytes(context.device)})


@torch.no_grad()
def measure(
    context: Context,
    contestant: Contestant,
    *,
    steps: int = 1,
    short_steps: int | None = 0,
    keep: str | None = None,
    same_as: str | None = None,
) -> None:
    """Rows of one contestant: setting up, steps of the short clip, then of the whole one, with errors and peaks.

    steps, short_steps: timed ones, after one that is not; None leaves the short clip out. keep: the way of computing that
    the whole clip's first answer stands for from now on. same_as: the way whose answer it must give to the last bit.
    """
    work = context.workload(contestant.home(context.device))
    short = work.at(context.short)
    forget_peak(context.device)
    began = time.perf_counter()
    with contestant.run(work) as running:
        synchronize(context.device)
        ready = {"seconds": time.perf_counter() - began, **peak_bytes(context.device)}
        context.row(f"{contestant.name}: ready", {**ready, "weight_bytes": work.weight_bytes})
        if short_steps is not None:  # kernels are compiled in it; the diffusers peer learns what to fetch ahead
            first = timed(lambda: running.step(short), context.device)
        if short_steps:
            times = [timed(lambda: running.step(short), context.device) for _ in range(short_steps)]
            figures = {"first_s": first, **_step_figures(short, times), **peak_bytes(context.device)}
            context.row(f"{contestant.name}: {short.size.what}", figures)
        forget_peak(context.device)
        answers: list[JointOutput] = []
        warm = timed(lambda: answers.extend(running.step(work)), context.device)
        outputs = velocities(answers)
        answers.clear()
        if keep is not None:
            context.keep_answer(keep, outputs)
        times = [timed(lambda: running.step(work), context.device) for _ in range(steps)]
        figures = {"first_s": warm, **_step_figures(work, times), **peak_bytes(context.device)}
        figures["streamed_bytes"] = running.streamed_bytes
        context.row(contestant.name, {**figures, **_compared(context, outputs, same_as)})


def _compared(context: Context, outputs: list[Tensor], same_as: str | None) -> dict[str, object]:
    """How far a step's velocities are from eager's, and whether they are `same_as`'s; nothing where those were not computed."""
    found: dict[str, object] = {}
    if (eager_ones := context.answer("eager")) is not None:
        found["relative_error"] = relative_errors(outputs, eager_ones)
    if same_as is not None and (expected := context.answer(same_as)) is not None:
        found[f"same_as_{same_as}"] = all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    return found


def _step_figures(work: Workload, times: list[float]) -> dict[str, object]:
    best = min(times)
    return {"s_step": best, "all_s": times, "flops_s": work.flops / best}
