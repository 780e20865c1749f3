"""The measured dry run: real updates on a model of one and two fused layers, scaled up to all of them.

What is measured is the run's own code on its own data, device and settings; afterwards training stands where it stood.
"""

from __future__ import annotations

import copy
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from phonofilm.models.joint import JointOutput
from phonofilm.parallel.sharded_tensors import local_nbytes
from phonofilm.training.dry_run.estimate import Estimate, HookCost, UpdateCost
from phonofilm.training.dry_run.layer_depth import Depth, depth_of, depths_to_measure, fit_depth, truncated
from phonofilm.training.dry_run.peak_memory import bytes_in_use, peak_of, resident_bytes
from phonofilm.training.loop.ema import WeightAverage
from phonofilm.training.loop.gradients import clip_gradients
from phonofilm.training.loop.optimizers import build_optimizers
from phonofilm.training.loop.previews import SampleHook
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.validation import ValidationLoss
from phonofilm.training.task.interface import BatchIndex, Hook
from phonofilm.training.task.joint_task import JointModel

MEASUREMENTS = 3


@dataclass(frozen=True)
class MicroBatchKind:
    """One kind of micro-batch, such as a bucket: a batch index that draws one, and how often they come, relatively."""

    index: BatchIndex
    share: float = 1.0


@dataclass(frozen=True)
class ExpertSwitch:
    """Bringing the other expert, and the first one back, is `there_and_back`; it happens `per_update` times half of that."""

    there_and_back: Callable[[], None]
    per_update: float


def estimate_run(
    trainer: Trainer,
    model: JointModel,
    cases: Mapping[str, MicroBatchKind],
    switching: ExpertSwitch | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Measure a few updates, a validation batch and a sample of `trainer`, whose task trains `model`; training is not disturbed.

    Every hook of the trainer that samples or validates is measured too. Raises what the training itself would raise.
    """
    trained = local_nbytes(trainer.parameters.values())
    watch = _Stopwatch(trainer.accelerator.device, clock)
    with trainer.undisturbed(), trainer.arithmetic():
        average = _average_seconds(trainer, watch)
        updates = {name: _update(trainer, model, case.index, watch) for name, case in cases.items()}
        switch = 0.0 if switching is None else watch(switching.there_and_back) / 2 * switching.per_update
        looks = [_look(hook, model, watch) for hook in trainer.hooks if hook.every]
    gc.collect()
    state = max(cost.state_per_weight for cost in updates.values()) * trained
    return Estimate(
        device=watch.device.type,
        base=bytes_in_use(watch.device),
        host_base=resident_bytes(),
        trained=trained,
        persistent=int(state) + (0 if trainer.average is None else trained),
        updates=updates,
        shares={name: case.share for name, case in cases.items()},
        around_seconds=average + switch,
        accumulate=trainer.config.accumulate,
        looks=tuple(look for look in looks if look is not None),
        config=trainer.config,
        parts=trainer.checkpointer.shards,
    )


@dataclass(frozen=True)
class _Stopwatch:
    """Seconds by a clock, once the device has finished its queue."""

    device: torch.device
    clock: Callable[[], float]

    def __call__(self, call: Callable[[], object], repeats: int = MEASUREMENTS) -> float:
        """The median of a few calls."""
        return statistics.median(self._once(call) for _ in range(repeats))

    def _once(self, call: Callable[[], object]) -> float:
        began = self.clock()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock() - began


@dataclass(frozen=True)
class _Found:
    """An update at one depth."""

    micro: float
    step: float
    peak: int
    state_per_weight: float


def _update(trainer: Trainer, model: JointModel, index: BatchIndex, watch: _Stopwatch) -> UpdateCost:
    """Time and memory of a micro-step and of the optimizer at full depth, from those at `depths_to_measure`."""
    full = depth_of(model.high)
    found = {}
    for depth in depths_to_measure(full):
        with truncated(model, depth):
            found[depth] = _update_at_depth(trainer, model, index, watch)
    micro, step, peak = (
        fit_depth({depth: getattr(at, name) for depth, at in found.items()}).at(full)
        for name in ("micro", "step", "peak")
    )
    return UpdateCost(micro, step, int(peak), max(at.state_per_weight for at in found.values()))


def _update_at_depth(trainer: Trainer, model: JointModel, index: BatchIndex, watch: _Stopwatch) -> _Found:
    optimizers = build_optimizers(trainer.parameters.items(), trainer.config.optimizer, trainer.task.rate_scales())

    def backward() -> None:
        with torch.enable_grad(), trainer.accelerator.autocast():
            total = trainer.task.loss(model, index).total
        total.backward()

    def clip_and_step() -> None:
        limit = trainer.config.optimizer.clip_norm or float("inf")
        clip_gradients(trainer.parameters.values(), limit, trainer.accelerator)
        for optimizer in optimizers:
            optimizer.step()

    _clear_gradients(trainer)
    backward()
    clip_and_step()
    # Gradients stay from here on, as they do between the micro-steps of one update.
    micro, step = watch(backward), watch(clip_and_step)
    gradients = _gradient_bytes(trainer)
    if trainer.config.accumulate == 1:
        _clear_gradients(trainer)
    kept = _gradient_bytes(trainer)
    with peak_of(watch.device) as peak:
        for _ in range(MEASUREMENTS):  # what a heap keeps of one update is not always what the next one can use
            if trainer.config.accumulate == 1:
                _clear_gradients(trainer)
            backward()
            clip_and_step()
    state = local_nbytes(tensor for optimizer in optimizers for tensor in _state_tensors(optimizer))
    _clear_gradients(trainer)
    return _Found(micro, step, peak.nbytes + kept, state / max(1, gradients))


def _look(hook: Hook, model: JointModel, watch: _Stopwatch) -> HookCost | None:
    """What one call of a hook takes; None for a hook that is not known here."""
    if isinstance(hook, ValidationLoss):
        return _validation(hook, model, watch)
    if isinstance(hook, SampleHook):
        return _samples(hook, model, watch)
    return None


def _validation(hook: ValidationLoss, model: JointModel, watch: _Stopwatch) -> HookCost:
    full, found, nbytes = depth_of(model.high), {}, 0

    def score() -> None:
        hook.errors(hook.sigmas[0], 1.0, batches=1)

    for depth in depths_to_measure(full):
        with truncated(model, depth):
            with peak_of(watch.device) as peak:
                score()
            nbytes = max(nbytes, peak.nbytes)
            found[depth] = watch(score)
    batches = sum(1 for _ in hook.batches(watch.device))
    return HookCost(hook.name, hook.every, fit_depth(found).at(full) * batches * len(hook.sigmas) * 2, nbytes, 0)


def _samples(hook: SampleHook, model: JointModel, watch: _Stopwatch) -> HookCost:
    """From one short clip per depth: the median of its forwards, and all around them, which depth does not change."""
    full, preview = depth_of(model.high), hook.previews[0]
    forward: dict[Depth, float] = {}
    around: list[float] = []
    with tempfile.TemporaryDirectory() as folder:

        def make(by: SampleHook) -> None:
            by.write(by.make(preview, {}, num_inference_steps=MEASUREMENTS), preview, Path(folder))

        with truncated(model, Depth(1)), peak_of(watch.device) as peak:
            make(hook)
        for depth in depths_to_measure(full):
            timed, calls = _timed(hook, watch)
            with truncated(model, depth):
                around.append(watch(partial(make, timed), repeats=1) - sum(calls))
            forward[depth] = statistics.median(calls)
        files = sum(path.stat().st_size for path in Path(folder).rglob("*"))
    each = statistics.median(around) + hook.steps * fit_depth(forward).at(full)
    count = len(hook.previews)
    return HookCost(hook.name, hook.every, count * each, peak.nbytes, count * files)


def _timed(hook: SampleHook, watch: _Stopwatch) -> tuple[SampleHook, list[float]]:
    """A copy of the hook that notes how long the forwards of each step take."""
    timed = copy.copy(hook)
    calls: list[float] = []

    def forwards(*arguments: Any) -> list[JointOutput]:
        outputs: list[JointOutput] = []
        calls.append(watch(lambda: outputs.extend(hook.forwards(*arguments)), repeats=1))
        return outputs

    timed.forwards = forwards  # type: ignore[method-assign,assignment]
    return timed, calls


def _average_seconds(trainer: Trainer, watch: _Stopwatch) -> float:
    if trainer.config.ema_decay is None:
        return 0.0
    average = WeightAverage(trainer.parameters, trainer.config.ema_decay)
    return watch(lambda: average.update(0))


def _gradient_bytes(trainer: Trainer) -> int:
    return local_nbytes(p.grad for p in trainer.parameters.values() if p.grad is not None)


def _state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]


def _clear_gradients(trainer: Trainer) -> None:
    for parameter in trainer.parameters.values():
        parameter.grad = None
