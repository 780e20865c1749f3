"""What a hook takes that validates or samples while a training runs: measured at small depths, scaled up to all layers."""

from __future__ import annotations

import copy
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from phonofilm.models.joint import JointOutput
from phonofilm.training.dry_run.estimate import HookCost
from phonofilm.training.dry_run.layer_depth import Depth, at_each_depth, at_full_depth, truncated
from phonofilm.training.dry_run.peak_memory import peak_of
from phonofilm.training.dry_run.stopwatch import MEASUREMENTS, Stopwatch
from phonofilm.training.loop.previews import SampleHook
from phonofilm.training.loop.validation import ValidationLoss
from phonofilm.training.task.interface import Hook
from phonofilm.training.task.joint_task import JointModel


def hook_cost(hook: Hook, model: JointModel, watch: Stopwatch) -> HookCost | None:
    """What one call of a hook takes; None for a hook that is not known here."""
    if isinstance(hook, ValidationLoss):
        return _validation(hook, model, watch)
    if isinstance(hook, SampleHook):
        return _samples(hook, model, watch)
    return None


def _validation(hook: ValidationLoss, model: JointModel, watch: Stopwatch) -> HookCost:
    peaks = []

    def score() -> None:
        hook.errors(hook.sigmas[0], 1.0, batches=1)

    def measure() -> float:
        with peak_of(watch.device) as peak:
            score()
        peaks.append(peak.nbytes)
        return watch(score)

    batch = at_full_depth(model, at_each_depth(model, measure))
    batches = sum(1 for _ in hook.batches(watch.device))
    return HookCost(hook.name, hook.every, batch * batches * len(hook.sigmas) * 2, max(peaks), 0)


def _samples(hook: SampleHook, model: JointModel, watch: Stopwatch) -> HookCost:
    """From one short clip per depth: the median of its forwards, and all around them, which depth does not change."""
    preview, around = hook.previews[0], []
    with tempfile.TemporaryDirectory() as folder:

        def make(by: SampleHook) -> None:
            by.write(by.make(preview, {}, num_inference_steps=MEASUREMENTS), preview, Path(folder))

        with truncated(model, Depth(1)), peak_of(watch.device) as peak:
            make(hook)

        def measure() -> float:
            timed, calls = _timed(hook, watch)
            around.append(watch(partial(make, timed), repeats=1) - sum(calls))
            return statistics.median(calls)

        forward = at_full_depth(model, at_each_depth(model, measure))
        files = sum(path.stat().st_size for path in Path(folder).rglob("*"))
    each = statistics.median(around) + hook.steps * forward
    count = len(hook.previews)
    return HookCost(hook.name, hook.every, count * each, peak.nbytes, count * files)


def _timed(hook: SampleHook, watch: Stopwatch) -> tuple[SampleHook, list[float]]:
    """A copy of the hook that notes how long the forwards of each step take."""
    timed = copy.copy(hook)
    calls: list[float] = []

    def forwards(*arguments: Any) -> list[JointOutput]:
        outputs: list[JointOutput] = []
        calls.append(watch(lambda: outputs.extend(hook.forwards(*arguments)), repeats=1))
        return outputs

    timed.forwards = forwards  # type: ignore[method-assign,assignment]
    return timed, calls
