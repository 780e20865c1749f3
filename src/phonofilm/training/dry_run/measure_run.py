"""The measured dry run: real updates on a model of one and two fused layers, scaled up to all of them.

What is measured is the run's own code on its own data, device and settings; afterwards training stands where it stood.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from phonofilm.parallel.sharded_tensors import local_nbytes
from phonofilm.training.dry_run.estimate import Estimate, UpdateCost, WarmStartCost
from phonofilm.training.dry_run.hook_costs import hook_cost
from phonofilm.training.dry_run.layer_depth import at_each_depth, at_full_depth
from phonofilm.training.dry_run.peak_memory import bytes_in_use, peak_of, resident_bytes
from phonofilm.training.dry_run.stopwatch import MEASUREMENTS, Stopwatch
from phonofilm.training.loop.ema import WeightAverage
from phonofilm.training.loop.gradients import clip_gradients
from phonofilm.training.loop.optimizers import build_optimizers
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.interface import BatchIndex
from phonofilm.training.task.joint_task import JointModel


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
    warm_start: Callable[[Stopwatch], WarmStartCost | None] = lambda watch: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Measure a few updates, a validation batch and a sample of `trainer`, whose task trains `model`; training is not disturbed.

    Every hook of the trainer that samples or validates is measured too. Raises what the training itself would raise.
    """
    trained = local_nbytes(trainer.parameters.values())
    watch = Stopwatch(trainer.accelerator.device, clock)
    with trainer.undisturbed(), trainer.arithmetic():
        average = _average_seconds(trainer, watch)
        updates = {name: _update(trainer, model, case.index, watch) for name, case in cases.items()}
        switch = 0.0 if switching is None else watch(switching.there_and_back) / 2 * switching.per_update
        before = warm_start(watch)
        looks = [hook_cost(hook, model, watch) for hook in trainer.hooks if hook.every]
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
        warm_start=before,
    )


def _update(trainer: Trainer, model: JointModel, index: BatchIndex, watch: Stopwatch) -> UpdateCost:
    """Time and memory of a micro-step and of the optimizer at full depth."""
    found = at_each_depth(model, lambda: _update_at_depth(trainer, model, index, watch))
    micro, step, peak = (
        at_full_depth(model, {depth: getattr(cost, name) for depth, cost in found.items()})
        for name in ("micro_seconds", "step_seconds", "peak")
    )
    return UpdateCost(micro, step, int(peak), max(cost.state_per_weight for cost in found.values()))


def _update_at_depth(trainer: Trainer, model: JointModel, index: BatchIndex, watch: Stopwatch) -> UpdateCost:
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
    return UpdateCost(micro, step, peak.nbytes + kept, state / max(1, gradients))


def _average_seconds(trainer: Trainer, watch: Stopwatch) -> float:
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
