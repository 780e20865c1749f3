"""The loop: updates, schedules, averages, checkpoints, hooks. It knows a task's loss, and nothing about what is learnt."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from accelerate.utils import broadcast_object_list
from torch import Tensor

from phonofilm.errors import PhonofilmError
from phonofilm.notices import NOTICE
from phonofilm.parallel.sharded_tensors import any_sharded, without_view_warnings
from phonofilm.training.checkpointing.checkpointer import Checkpointer, RunTensors
from phonofilm.training.checkpointing.run_folder import latest_checkpoint, refuse_second_start, sweep_checkpoints
from phonofilm.training.checkpointing.run_lock import run_lock
from phonofilm.training.checkpointing.run_state import refuse_other_run, restore, run_state
from phonofilm.training.checkpointing.sharded_checkpointer import ShardedCheckpointer
from phonofilm.training.checkpointing.snapshot import Snapshot, copy_weights, read_state
from phonofilm.training.checkpointing.whole_checkpointer import WholeCheckpointer
from phonofilm.training.config.training_config import LoopConfig
from phonofilm.training.loop.boards import open_boards
from phonofilm.training.loop.early_stopping import Validations
from phonofilm.training.loop.ema import WeightAverage
from phonofilm.training.loop.gradients import average_gradients, clip_gradients, describe_not_finite
from phonofilm.training.loop.metrics_log import HookResult, LossReport, Meter, MetricsLog, merged, read_metrics
from phonofilm.training.loop.optimizers import build_optimizers, joint_part_of, progress, rate_factor, set_rate
from phonofilm.training.loop.precision import bfloat16_products, resolve_precision
from phonofilm.training.loop.processes import (
    StopRequests,
    agree_on_requests,
    clear_requests,
    join_processes,
    make_accelerator,
)
from phonofilm.training.loop.signals import StopRequest, stop_on_signals
from phonofilm.training.loop.training_state import ProgressCallback, TrainingProgress, UpdatePace, undisturbed
from phonofilm.training.task.interface import BatchIndex, Hook, HookContext, RunEnd, TaskLoss, TrainingTask

logger = logging.getLogger(__name__)

HOOK_ERRORS = (PhonofilmError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError)


class Trainer:
    """Trains one task into one run folder."""

    def __init__(
        self,
        task: TrainingTask,
        config: LoopConfig,
        folder: Path,
        hooks: Sequence[Hook] = (),
        clock: Callable[[], float] = time.monotonic,
        watch: ProgressCallback | None = None,
    ) -> None:
        self.task = task
        self.config = config
        self.folder = folder
        self.hooks = hooks
        self.step = 0
        self.halted: frozenset[str] = frozenset()
        self._clock = clock
        self._watch = watch
        self._pace = UpdatePace()
        self._losses: dict[str, float] = {}
        self._spent = 0.0
        self._agreed = 0.0
        self._since: float | None = None
        precision = resolve_precision(config.precision, join_processes(config).device)
        self._rounded = precision == "bf16-products"
        self.accelerator = make_accelerator(config, "no" if self._rounded else precision)
        task.prepare(self.accelerator.device)
        self.parameters = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
        optimizers = build_optimizers(self.parameters.items(), config.optimizer, task.rate_scales())
        self._optimizers = tuple(self.accelerator.prepare(optimizer) for optimizer in optimizers)
        self.average = WeightAverage(self.parameters, config.ema_decay) if config.ema_decay else None
        self.tensors = RunTensors(self.parameters, self._averages, self._optimizers)
        self.checkpointer = self._make_checkpointer()

    def _make_checkpointer(self) -> Checkpointer:
        keep, tensors, accelerator = self.config.keep_last, self.tensors, self.accelerator
        if any_sharded(self.parameters):
            return ShardedCheckpointer(self.folder, keep, tensors, accelerator)
        return WholeCheckpointer(self.folder, keep, tensors, accelerator, self.task.export)

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all resumes."""
        return self._spent + (0.0 if self._since is None else self._clock() - self._since)

    @property
    def _averages(self) -> dict[str, Tensor] | None:
        return None if self.average is None else self.average.state_dict()

    @property
    def done(self) -> float:
        return progress(self.step, self._agreed, self.config.max_steps, self.config.budget_seconds)

    @property
    def _finished(self) -> bool:
        return self.done >= 1 or self.halted >= self.config.modalities

    def run(self, until: int | None = None) -> RunEnd:
        """Train to the configured end, to a total of `until` updates, or until SIGINT/SIGTERM; save; return why."""
        if not self.accelerator.is_main_process:
            return self._run(None, until)
        with run_lock(self.folder):
            if self.step == 0:
                refuse_second_start(self.folder)
            sweep_checkpoints(self.folder)
            boards = open_boards(self.folder, self.step, self.config.tensorboard, self.config.wandb)
            log = MetricsLog(self.folder, self.step, boards)
            try:
                return self._run(log, until)
            finally:
                log.close()

    def _run(self, log: MetricsLog | None, until: int | None) -> RunEnd:
        self._validations = Validations(read_metrics(self.folder) if log is not None else (), self.config.patience)
        self._agree_on_halts()
        self._since = self._clock()
        try:
            with stop_on_signals() as stop, self.arithmetic():
                end = self._loop(log, until, stop)
        finally:
            self._spent, self._since = self.elapsed, None
        logger.info("%s after %d updates, %.0f s", end.reason, end.step, end.elapsed)
        return end

    def _loop(self, log: MetricsLog | None, until: int | None, stop: StopRequest) -> RunEnd:
        meter, saved = Meter(), -1
        seen: Sequence[Hook] = self.hooks if self.step == 0 else ()  # those that have looked at this update
        if seen:
            self._run_hooks(log, seen)
        asked = self._ask(stop)
        while not self._finished and not asked.stop and (until is None or self.step < until):
            began = self._clock()
            meter.add(self._update())
            self._pace.add(self._clock() - began)
            self.step += 1
            fresh = self.step % self.config.log_every == 0 and log is not None
            if fresh and log is not None:
                self._log_progress(log, meter)
            self._show_progress(fresh)
            seen = [hook for hook in self.hooks if hook.every and self.step % hook.every == 0]
            if seen:
                self._run_hooks(log, seen)
            asked = self._ask(stop)
            if asked.save or (self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0):
                saved = self.save()
        finished = self._finished
        if saved != self.step:
            self.save()
        left = [hook for hook in self.hooks if not any(hook is one for one in seen)]
        if finished and left:
            self._run_hooks(log, left)
        reason: Literal["finished", "paused", "interrupted"] = (
            "finished" if finished else "interrupted" if asked.stop else "paused"
        )
        return RunEnd(reason, self.step, self.elapsed)

    def _ask(self, stop: StopRequest) -> StopRequests:
        asked = agree_on_requests(self.accelerator, self.folder, self.elapsed, stop)
        self._agreed = asked.elapsed
        return asked

    def batch_index(self, micro: int) -> BatchIndex:
        """This process's micro-step `micro` of the update that comes next."""
        accelerator, config = self.accelerator, self.config
        shared = self.task.processes_per_clip
        rank, processes = accelerator.process_index // shared, accelerator.num_processes // shared
        return BatchIndex(self.step, micro, config.accumulate, rank, processes, config.seed, self.halted)

    def accumulate_gradients(self) -> list[TaskLoss]:
        """Add up the gradient of the next update over its micro-steps. Returns their losses, not yet evaluated."""
        losses, count = [], self.config.accumulate
        for micro in range(count):
            with self.accelerator.autocast():
                loss = self.task.loss(self.task.model, self.batch_index(micro))
            self.accelerator.backward(loss.total / count)
            losses.append(replace(loss, total=loss.total.detach()))
        average_gradients(self.parameters.values(), self.accelerator)
        return losses

    def _update(self) -> LossReport:
        factor = rate_factor(self.config.optimizer, self.step, self.done)
        set_rate(self._optimizers, factor)
        losses = self.accumulate_gradients()
        if self.halted:
            for name, parameter in self.parameters.items():
                if joint_part_of(name) in self.halted:
                    parameter.grad = None
        limit = self.config.optimizer.clip_norm or float("inf")
        norm = float(clip_gradients(self.parameters.values(), limit, self.accelerator))
        if not math.isfinite(norm) and self.accelerator.scaler is None:  # a scaler skips such an update and scales less
            raise PhonofilmError(describe_not_finite(self.step, losses))
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.step)
        reports = [loss.report for loss in losses]
        return lambda: merged(reports, {"update/gradient_norm": norm, "update/rate": factor})

    def _log_progress(self, log: MetricsLog, meter: Meter) -> None:
        values = meter.take()
        values["time/ms_per_update"] = self._pace.seconds * 1000
        log.write(self.step, self.elapsed, values)
        self._losses = {name[5:]: value for name, value in values.items() if name in ("loss/video", "loss/audio")}
        losses = "  ".join(f"{name} {value:.4f}" for name, value in self._losses.items())
        logger.info("step %d  %s  %.0f ms", self.step, losses, values["time/ms_per_update"])
        if not all(map(math.isfinite, values.values())):
            raise PhonofilmError(f"training diverged before update {self.step}: {losses}; lower optimizer.lr")

    def _show_progress(self, fresh: bool) -> None:
        if self._watch is not None and self.accelerator.is_main_process:
            done = self.done
            left = self.elapsed / done * (1 - done) if done else 0.0
            total, pace = self.config.max_steps, self._pace.seconds
            self._watch(TrainingProgress(self.step, total, done, pace, left, self._losses, fresh))

    def _run_hooks(self, log: MetricsLog | None, hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            new: dict[str, float] = {}
            if log is not None:
                result = self._run_hook(hook, self.folder)
                log.write(self.step, self.elapsed, result)
                new = self._validations.add(self.step, result)
            elif self.task.together:
                with TemporaryDirectory() as unseen:
                    self._run_hook(hook, Path(unseen))
            self.checkpointer.save_best(self.snapshot(), new)
        self._agree_on_halts()

    def _run_hook(self, hook: Hook, folder: Path) -> HookResult:
        with self.undisturbed():
            try:
                return hook(HookContext(self.step, self.elapsed, folder))
            except HOOK_ERRORS:
                logger.exception("%s failed at update %d; training goes on", hook.name, self.step)
                return {f"failed/{hook.name}": 1.0}

    def _agree_on_halts(self) -> None:
        """Every process waits for the main one, which decides, and learns what it decided."""
        before = self.halted
        self.halted = broadcast_object_list([self._validations.halted])[0]
        self.accelerator.wait_for_everyone()
        for modality in sorted(self.halted - before):
            logger.log(NOTICE, "update %d: %s no longer gets better and stops learning", self.step, modality)

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """A block in which the model multiplies as the config's precision says, where autocast does not see to it."""
        with without_view_warnings(), bfloat16_products(self.task.model) if self._rounded else nullcontext():
            yield

    def undisturbed(self) -> AbstractContextManager[None]:
        """A block in which the averaged weights are in place, and which leaves no trace."""
        return undisturbed(self.task.model, self.parameters, self._averages, self.accelerator.device)

    def adopt_average(self) -> None:
        """Put the averaged weights into the model for good, if an average is kept."""
        if self.average is not None:
            copy_weights(self.parameters, self.average.state_dict())

    def snapshot(self) -> Snapshot:
        """The whole state of the run, as saved. Where processes have shards of it, this process's shards."""
        optimizers = self.checkpointer.optimizer_states()
        state = run_state(self.accelerator, self.config, self.task.content, optimizers, self.elapsed)
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return Snapshot(self.step, weights, self._averages, state)

    def save(self) -> int:
        """Write a checkpoint. Every process calls it. Returns the step it is of."""
        self.checkpointer.save(self.snapshot())
        clear_requests(self.accelerator, self.folder)
        self.accelerator.wait_for_everyone()
        return self.step

    def resume(self, allow: Sequence[str] = ()) -> None:
        """Go back to the run folder's latest checkpoint.

        Raises CheckpointError when the config differs from that run's in a key that `allow` does not name.
        """
        path = latest_checkpoint(self.folder)
        state = read_state(path)
        refuse_other_run(state, self.config, self.task.content, self.accelerator.num_processes, allow)
        self.checkpointer.load(path)
        restore(self.accelerator, state, self._optimizers)
        self.step, self._spent = state["step"], state["elapsed"]
        logger.log(NOTICE, "goes on from %s: update %d, %.0f s of training", path, self.step, self._spent)
