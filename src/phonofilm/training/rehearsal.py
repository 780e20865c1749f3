"""The measured dry run: real updates on a model of one and two fused layers, scaled up to all of them.

What is measured is the run's own code on its own data, device and settings; afterwards training stands where it stood.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from phonofilm.training.depth import ByDepth, Depth, by_depth, depth_of, depths_to_measure, shallow
from phonofilm.training.ema import WeightAverage
from phonofilm.training.estimate import Estimate, Looking, UpdateCost
from phonofilm.training.joint import JointModel
from phonofilm.training.memory import held, peak_of, resident_bytes
from phonofilm.training.optimizers import build_optimizers
from phonofilm.training.previews import SampleHook
from phonofilm.training.task import Hook, Turn
from phonofilm.training.trainer import Trainer
from phonofilm.training.validation import ValidationLoss

REPEATS = 3


@dataclass(frozen=True)
class Case:
    """One kind of micro-batch, such as a bucket: a turn that draws one, and how often they come, relatively."""

    turn: Turn
    share: float = 1.0


def rehearse(
    trainer: Trainer, model: JointModel, cases: Mapping[str, Case], clock: Callable[[], float] = time.perf_counter
) -> Estimate:
    """Measure a few updates, a validation batch and a sample of `trainer`, whose task trains `model`; training is not disturbed.

    Every hook of the trainer that samples or validates is measured too. Raises what the training itself would raise.
    """
    trained = sum(p.numel() * p.element_size() for p in trainer.parameters.values())
    watch = _Stopwatch(trainer.accelerator.device, clock)
    with trainer.undisturbed(), trainer.arithmetic():
        average = _average_seconds(trainer, watch)
        updates = {name: _update(trainer, model, case.turn, watch) for name, case in cases.items()}
        looks = [_look(hook, model, watch) for hook in trainer.hooks if hook.every]
    gc.collect()
    state = max(cost.state_per_weight for cost in updates.values()) * trained
    return Estimate(
        device=watch.device.type,
        base=held(watch.device),
        host_base=resident_bytes(),
        trained=trained,
        persistent=int(state) + (0 if trainer.average is None else trained),
        updates=updates,
        shares={name: case.share for name, case in cases.items()},
        average_seconds=average,
        accumulate=trainer.config.accumulate,
        looks=tuple(look for look in looks if look is not None),
        config=trainer.config,
    )


@dataclass(frozen=True)
class _Stopwatch:
    """Seconds by a clock, once the device has done what it was told."""

    device: torch.device
    clock: Callable[[], float]

    def __call__(self, call: Callable[[], object], repeats: int = REPEATS) -> float:
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


def _update(trainer: Trainer, model: JointModel, turn: Turn, watch: _Stopwatch) -> UpdateCost:
    """Time and memory of a micro-step and of the optimizer at full depth, from those at `depths_to_measure`."""
    full = depth_of(model.high)
    found = {}
    for depth in depths_to_measure(full):
        with shallow(model, depth):
            found[depth] = _update_at_depth(trainer, model, turn, watch)
    micro, step, peak = (
        by_depth({depth: getattr(at, name) for depth, at in found.items()}).at(full)
        for name in ("micro", "step", "peak")
    )
    return UpdateCost(micro, step, int(peak), max(at.state_per_weight for at in found.values()))


def _update_at_depth(trainer: Trainer, model: JointModel, turn: Turn, watch: _Stopwatch) -> _Found:
    optimizers = build_optimizers(trainer.parameters.items(), trainer.config.optimizer, trainer.task.rate_scales())

    def backward() -> None:
        with torch.enable_grad():
            trainer.task.loss(model, turn).total.backward()

    def clip_and_step() -> None:
        limit = trainer.config.optimizer.clip_norm or float("inf")
        torch.nn.utils.clip_grad_norm_(trainer.parameters.values(), limit)
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
        backward()
        clip_and_step()
    state = sum(t.numel() * t.element_size() for optimizer in optimizers for t in _state_tensors(optimizer))
    _clear_gradients(trainer)
    return _Found(micro, step, peak.nbytes + kept, state / max(1, gradients))


def _look(hook: Hook, model: JointModel, watch: _Stopwatch) -> Looking | None:
    """What one call of a hook takes; None for a hook that is not known here."""
    if isinstance(hook, ValidationLoss):
        return _validation(hook, model, watch)
    if isinstance(hook, SampleHook):
        return _samples(hook, model, watch)
    return None


def _validation(hook: ValidationLoss, model: JointModel, watch: _Stopwatch) -> Looking:
    full, found, nbytes = depth_of(model.high), {}, 0

    def score() -> None:
        hook.errors(hook.sigmas[0], 1.0, batches=1)

    for depth in depths_to_measure(full):
        with shallow(model, depth):
            with peak_of(watch.device) as peak:
                score()
            nbytes = max(nbytes, peak.nbytes)
            found[depth] = watch(score)
    batches = sum(1 for _ in hook.batches(watch.device))
    return Looking(hook.name, hook.every, by_depth(found).at(full) * batches * len(hook.sigmas) * 2, nbytes, 0)


def _samples(hook: SampleHook, model: JointModel, watch: _Stopwatch) -> Looking:
    """From one clip of one step, one of two steps, and one of one step at another depth; and from writing it."""
    full, preview = depth_of(model.high), hook.previews[0]

    def seconds(steps: int, depth: Depth) -> float:
        with shallow(model, depth):
            return watch(lambda: hook.make(preview, {}, num_inference_steps=steps), repeats=1)

    with shallow(model, Depth(1)), peak_of(watch.device) as peak:
        clip = hook.make(preview, {}, num_inference_steps=1)
    law = by_depth({depth: seconds(1, depth) for depth in depths_to_measure(full)})
    step = max(0.0, seconds(2, Depth(1)) - law.first)
    around = max(0.0, law.first - step)
    with tempfile.TemporaryDirectory() as folder:
        writing = watch(lambda: hook.write(clip, preview, Path(folder)), repeats=1)
        files = sum(path.stat().st_size for path in Path(folder).rglob("*"))
    each = around + hook.steps * ByDepth(step, law.fused, law.alone).at(full) + writing
    count = len(hook.previews)
    return Looking(hook.name, hook.every, count * each, peak.nbytes, count * files)


def _average_seconds(trainer: Trainer, watch: _Stopwatch) -> float:
    if trainer.config.ema_decay is None:
        return 0.0
    average = WeightAverage(trainer.parameters, trainer.config.ema_decay)
    return watch(lambda: average.update(0))


def _gradient_bytes(trainer: Trainer) -> int:
    gradients = (p.grad for p in trainer.parameters.values())
    return sum(g.numel() * g.element_size() for g in gradients if g is not None)


def _state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]


def _clear_gradients(trainer: Trainer) -> None:
    for parameter in trainer.parameters.values():
        parameter.grad = None
