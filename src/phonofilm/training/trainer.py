"""The loop: updates, schedules, averages, checkpoints, hooks. It knows a task's loss, and nothing about what is learnt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from phonofilm.errors import CheckpointError, InputError, PhonofilmError
from phonofilm.training.checkpoints import (
    Snapshot,
    checkpoint_folders,
    copy_weights,
    latest_checkpoint,
    load_snapshot,
    save_snapshot,
)
from phonofilm.training.config import LoopConfig
from phonofilm.training.ema import WeightAverage, borrowed_weights
from phonofilm.training.logs import Meter, MetricsLog, Report
from phonofilm.training.optimizers import build_optimizers, progress, rate_factor, set_rate
from phonofilm.training.precision import bfloat16_products
from phonofilm.training.signals import StopRequest, stop_on_signals
from phonofilm.training.task import Hook, Moment, Task, Turn

logger = logging.getLogger(__name__)

HOOK_ERRORS = (PhonofilmError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError)
FREE_TO_CHANGE = frozenset({"log_every", "checkpoint_every", "keep_last", "tensorboard"})


@dataclass(frozen=True)
class RunEnd:
    """Why and where `run` returned."""

    reason: Literal["finished", "paused", "interrupted"]
    step: int
    elapsed: float


class Trainer:
    """Trains one task into one run folder."""

    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        folder: Path,
        hooks: Sequence[Hook] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task = task
        self.config = config
        self.folder = folder
        self.hooks = hooks
        self.step = 0
        self._clock = clock
        self._spent = 0.0
        self._since: float | None = None
        rounded = config.precision == "bf16-products"
        self.accelerator = Accelerator(
            cpu=config.device == "cpu", mixed_precision="no" if rounded else config.precision
        )
        self._arithmetic = bfloat16_products if rounded else nullcontext
        task.model.to(self.accelerator.device)
        task.prepare(self.accelerator.device)
        self.parameters = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
        optimizers = build_optimizers(self.parameters.items(), config.optimizer, task.rate_scales())
        self._model = self.accelerator.prepare(task.model)
        self._optimizers = [self.accelerator.prepare(optimizer) for optimizer in optimizers]
        self.average = WeightAverage(self.parameters, config.ema_decay) if config.ema_decay else None

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all resumes."""
        return self._spent + (0.0 if self._since is None else self._clock() - self._since)

    @property
    def done(self) -> float:
        return progress(self.step, self.elapsed, self.config.max_steps, self.config.budget_seconds)

    def run(self, until: int | None = None) -> RunEnd:
        """Train to the configured end, to a total of `until` updates, or until SIGINT/SIGTERM; save; return why."""
        if self.step == 0 and checkpoint_folders(self.folder):
            raise InputError(f"{self.folder} already holds checkpoints; resume that run or name another folder")
        main = self.accelerator.is_main_process
        log = MetricsLog(self.folder, self.step, self.config.tensorboard) if main else None
        self._since = self._clock()
        try:
            with stop_on_signals() as stop, self._arithmetic(self.task.model):
                end = self._loop(log, until, stop)
        finally:
            self._spent, self._since = self.elapsed, None
            if log is not None:
                log.close()
        logger.info("%s after %d updates, %.0f s", end.reason, end.step, end.elapsed)
        return end

    def _loop(self, log: MetricsLog | None, until: int | None, stop: StopRequest) -> RunEnd:
        meter, saved, looked, marked = Meter(), -1, -1, (self.step, self.elapsed)
        if self.step == 0:
            looked = self._run_hooks(log, self.hooks)
        while self.done < 1 and not stop.requested and (until is None or self.step < until):
            meter.add(self._update())
            self.step += 1
            if self.step % self.config.log_every == 0 and log is not None:
                marked = self._log_progress(log, meter, marked)
            due = [hook for hook in self.hooks if hook.every and self.step % hook.every == 0]
            if due:
                looked = self._run_hooks(log, due)
            if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
                saved = self.save()
        finished = self.done >= 1
        if saved != self.step:
            self.save()
        if finished and looked != self.step:
            self._run_hooks(log, self.hooks)
        reason: Literal["finished", "paused", "interrupted"] = (
            "finished" if finished else "interrupted" if stop.requested else "paused"
        )
        return RunEnd(reason, self.step, self.elapsed)

    def turn(self, micro: int) -> Turn:
        """This process's micro-step `micro` of the update that comes next."""
        accelerator, config = self.accelerator, self.config
        rank, processes = accelerator.process_index, accelerator.num_processes
        return Turn(self.step, micro, config.accumulate, rank, processes, config.seed)

    def accumulate_gradients(self) -> list[Report]:
        """Add up the gradient of the next update over its micro-steps. Returns their reports, not yet evaluated."""
        reports, count = [], self.config.accumulate
        for micro in range(count):
            last = micro == count - 1
            with nullcontext() if last else self.accelerator.no_sync(self._model):
                loss = self.task.loss(self._model, self.turn(micro))
                self.accelerator.backward(loss.total / count)
            reports.append(loss.report)
        return reports

    def _update(self) -> Report:
        factor = rate_factor(self.config.optimizer, self.step, self.done)
        set_rate(self._optimizers, factor)
        reports = self.accumulate_gradients()
        limit = self.config.optimizer.clip_norm or float("inf")
        norm = self.accelerator.clip_grad_norm_(self.parameters.values(), limit)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.step)
        return lambda: _merged(reports, norm, factor)

    def _log_progress(self, log: MetricsLog, meter: Meter, marked: tuple[int, float]) -> tuple[int, float]:
        values, elapsed = meter.take(), self.elapsed
        values["time/ms_per_update"] = (elapsed - marked[1]) / max(1, self.step - marked[0]) * 1000
        log.write(self.step, elapsed, values)
        left = elapsed / self.done * (1 - self.done) if self.done else 0.0
        losses = "  ".join(
            f"{name[5:]} {value:.4f}" for name, value in values.items() if name.count("/") == 1 and "loss/" in name
        )
        logger.info("step %d  %s  %.0f ms  %.0f s left", self.step, losses, values["time/ms_per_update"], left)
        if not all(torch.isfinite(torch.tensor(list(values.values())))):
            raise PhonofilmError(f"training diverged before update {self.step}: {losses}; lower the learning rate")
        return self.step, self.elapsed

    def _run_hooks(self, log: MetricsLog | None, hooks: Sequence[Hook]) -> int:
        if log is not None:
            for hook in hooks:
                values = self._run_hook(hook)
                log.write(self.step, self.elapsed, values)
        self.accelerator.wait_for_everyone()
        return self.step

    def _run_hook(self, hook: Hook) -> dict[str, float]:
        with self.undisturbed():
            try:
                return hook(Moment(self.step, self.elapsed, self.folder))
            except HOOK_ERRORS:
                logger.exception("%s failed at update %d; training goes on", hook.name, self.step)
                return {f"failed/{hook.name}": 1.0}

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """A block in which the averaged weights are in place; weights, module modes and random state come back after it."""
        modes = {module: module.training for module in self.task.model.modules()}
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        average = self.average.state_dict() if self.average is not None else None
        try:
            with torch.random.fork_rng(devices), borrowed_weights(self.parameters, average), torch.no_grad():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    def adopt_average(self) -> None:
        """Put the averaged weights into the model for good, if an average is kept."""
        if self.average is not None:
            copy_weights(self.parameters, self.average.state_dict())

    def snapshot(self) -> Snapshot:
        """The whole state of the run, as saved."""
        cuda = self.accelerator.device.type == "cuda"
        state: dict[str, Any] = {
            "elapsed": self.elapsed,
            "config": self.config.model_dump(mode="json"),
            "processes": self.accelerator.num_processes,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if cuda else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return Snapshot(self.step, weights, self.average.state_dict() if self.average else None, state)

    def save(self) -> int:
        """Write a checkpoint, on the main process. Returns the step it is of."""
        if self.accelerator.is_main_process:
            save_snapshot(self.folder, self.snapshot(), self.config.keep_last)
        self.accelerator.wait_for_everyone()
        return self.step

    def resume(self, allow: Sequence[str] = ()) -> None:
        """Go back to the run folder's latest checkpoint.

        Raises CheckpointError when the config differs from that run's in a key that `allow` does not name.
        """
        path = latest_checkpoint(self.folder)
        snapshot = load_snapshot(path)
        state = snapshot.state
        self._refuse_changes(state, FREE_TO_CHANGE | set(allow))
        if set(snapshot.weights) != set(self.parameters):
            raise CheckpointError(f"{path} trains other parameters than this run; expected {len(self.parameters)}")
        copy_weights(self.parameters, snapshot.weights)
        if self.average is not None and snapshot.average is not None:
            self.average.load_state_dict(snapshot.average)
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, setting in zip(optimizer.param_groups, settings, strict=True):
                group.update(setting)
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"])
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self._spent = snapshot.step, state["elapsed"]
        logger.info("resumed %s at update %d", self.folder, self.step)

    def _refuse_changes(self, state: dict[str, Any], allowed: frozenset[str] | set[str]) -> None:
        before, now = state["config"], self.config.model_dump(mode="json")
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        refused = [key for key in changed if key not in allowed]
        if refused:
            raise CheckpointError(
                f"the config changed since the checkpoint in {', '.join(refused)}; "
                "restore it, name these keys as allowed to change, or start a new run folder"
            )
        if state["processes"] != self.accelerator.num_processes:
            raise CheckpointError(
                f"the run used {state['processes']} processes and now has {self.accelerator.num_processes}; use as many"
            )


def _merged(reports: Sequence[Report], norm: Tensor | float, factor: float) -> dict[str, tuple[float, float]]:
    values: dict[str, tuple[float, float]] = {"update/gradient_norm": (float(norm), 1.0), "update/rate": (factor, 1.0)}
    for report in reports:
        for name, (total, count) in report().items():
            before = values.get(name, (0.0, 0.0))
            values[name] = (before[0] + total, before[1] + count)
    return values
