"""Measuring many clips: one clip per process in memory, rows kept as they are made, errors as rows. Knows no screen."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from phonofilm.errors import PhonofilmError
from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_list import ClipEntry
from phonofilm.evaluation.memory_reuse import keep_freed_memory
from phonofilm.evaluation.metric import Metric, Setup
from phonofilm.evaluation.prompt_items import PromptItem
from phonofilm.evaluation.row_cache import RowCache
from phonofilm.evaluation.rows import Row, not_applicable
from phonofilm.evaluation.weights import check
from phonofilm.process.orphans import end_with_parent
from phonofilm.units import counted

logger = logging.getLogger(__name__)

BYTES_PER_PROCESS = 3 * 2**29  # a clip of 8 s at 720p, its grey copy and the libraries
Rows = Mapping[str, Row]  # by the metric's name
OnClip = Callable[[int, int], object]  # clips done, of how many


@dataclass(frozen=True)
class MeasuringPlan:
    """What is measured and how. rows: the folder that keeps rows. jobs: clips at once; None for as many as fit.

    ray: the address of the Ray cluster whose machines share the clips; None for this machine alone. items: the prompts that
    clips are expected of. notes: what is to be known before the measuring, a line each.
    """

    clips: tuple[ClipEntry, ...]
    metrics: tuple[str, ...]
    setup: Setup
    rows: Path
    jobs: int | None = None
    ray: str | None = None
    items: tuple[PromptItem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The notes, and the line that comes before the measuring."""
        times = f"{self.jobs or processes(len(self.clips))} at a time" if self.ray is None else f"on Ray ({self.ray})"
        names = ", ".join(self.metrics)
        counts = f"{counted(len(self.clips), 'clip')}, {counted(len(self.metrics), 'metric')}"
        return "\n".join([*self.notes, f"{counts} ({names}), profile {self.setup.profile}, {times}"])


Sharing = Callable[[MeasuringPlan], Iterator[tuple[ClipEntry, Rows]]]  # yields clips as they are done


def measure_on_this_machine(plan: MeasuringPlan) -> Iterator[tuple[ClipEntry, Rows]]:
    """In this process where one clip is measured at once, else in processes of their own."""
    jobs = plan.jobs or processes(len(plan.clips))
    return _in_one_process(plan) if jobs == 1 else _in_processes(plan, jobs)


def measure_all(
    plan: MeasuringPlan,
    on_clip: OnClip = lambda done, total: None,
    sharing: Sharing = measure_on_this_machine,
) -> dict[str, Rows]:
    """Every clip's rows, by its id, in the plan's order.

    Metrics that run alone follow the others, one clip at a time. A clip whose process dies is a failed row; all others go on.
    """
    metrics = build(plan.metrics, plan.setup)
    passes = [
        (tuple(metric.name for metric in metrics if not metric.alone), plan.jobs),
        (tuple(metric.name for metric in metrics if metric.alone), 1),
    ]
    passes = [(names, jobs) for names, jobs in passes if names]
    total = len(plan.clips) * len(passes)
    found: dict[str, dict[str, Row]] = {clip.id: {} for clip in plan.clips}
    done = 0
    for names, jobs in passes:
        for clip, rows in sharing(replace(plan, metrics=names, jobs=jobs)):
            found[clip.id].update(rows)
            done += 1
            on_clip(done, total)
    return {clip: {metric.name: rows[metric.name] for metric in metrics} for clip, rows in found.items()}


def processes(clips: int) -> int:
    """As many as there are cores, clips, and room in memory for."""
    import psutil

    room = int(psutil.virtual_memory().available // BYTES_PER_PROCESS)
    return max(1, min(clips, os.cpu_count() or 1, room))


class ClipMeasurer:
    """The metrics of a run in one process, built once; measures one clip after another."""

    def __init__(self, metrics: Sequence[str], setup: Setup, rows: Path) -> None:
        self._metrics = build(metrics, setup)
        self._checks = {metric.name: check(metric, hashes=True) for metric in self._metrics}
        self._cache = RowCache(rows)

    def measure(self, entry: ClipEntry) -> dict[str, Row]:
        """The clip's rows, taken from the cache where they are there; written to it as they are made."""
        clip = ClipFacts(entry.path, entry.id, entry.category, entry.item)
        return {metric.name: self._row(metric, clip) for metric in self._metrics}

    def _row(self, metric: Metric, clip: ClipFacts) -> Row:
        missing = self._checks[metric.name].reason
        if missing:
            return Row("unavailable", reason=missing)
        began = time.perf_counter()
        try:
            kept = self._cache.read(metric, clip)
            if kept is not None:
                return kept
            row = replace(_lacking(metric, clip) or metric.measure(clip), seconds=time.perf_counter() - began)
            self._keep(metric, clip, row)
            return row
        except PhonofilmError as error:
            return Row("failed", reason=str(error), seconds=time.perf_counter() - began)
        except Exception as error:
            logger.warning("%s of %s failed", metric.name, clip.id, exc_info=True)
            return Row("failed", reason=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - began)

    def _keep(self, metric: Metric, clip: ClipFacts, row: Row) -> None:
        """A row that cannot be kept stands in this report all the same."""
        try:
            self._cache.keep(metric, clip, row)
        except PhonofilmError as error:
            logger.warning("%s of %s is measured again next time: %s", metric.name, clip.id, error)


def _lacking(metric: Metric, clip: ClipFacts) -> Row | None:
    """The row of a clip that does not have what the metric reads."""
    needs = metric.needs
    if needs.prompt and clip.item is None:
        return not_applicable("no prompt is known for the clip (--prompts)")
    if needs.picture and not clip.has_picture:
        return not_applicable("the clip has no picture")
    if needs.sound and not clip.has_sound:
        return not_applicable("the clip has no sound")
    return None


def _in_one_process(plan: MeasuringPlan) -> Iterator[tuple[ClipEntry, Rows]]:
    measurer = ClipMeasurer(plan.metrics, plan.setup, plan.rows)
    for clip in plan.clips:
        yield clip, measurer.measure(clip)


def _in_processes(plan: MeasuringPlan, jobs: int) -> Iterator[tuple[ClipEntry, Rows]]:
    """As clips are done. When a process dies, those not yet done are measured one by one, each in a process of its own."""
    waiting = {clip.id: clip for clip in plan.clips}
    try:
        with _pool(plan, jobs) as pool:
            for clip, rows in _as_done(pool, plan.clips):
                del waiting[clip.id]
                yield clip, rows
    except BrokenProcessPool:
        logger.warning("a process that measured clips died; the %d clips left are measured one by one", len(waiting))
    for clip in waiting.values():
        yield clip, _apart(plan, clip)


def _as_done(pool: ProcessPoolExecutor, clips: Sequence[ClipEntry]) -> Iterator[tuple[ClipEntry, Rows]]:
    """An interrupt ends the processes at once, instead of waiting for every clip that was handed out."""
    futures: dict[Future[dict[str, Row]], ClipEntry] = {pool.submit(_measure, clip): clip for clip in clips}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise


def _apart(plan: MeasuringPlan, clip: ClipEntry) -> Rows:
    try:
        with _pool(plan, 1) as pool:
            return pool.submit(_measure, clip).result()
    except BrokenProcessPool:
        reason = "the process that measured it died, most likely for want of memory"
        return {name: Row("failed", reason=reason) for name in plan.metrics}


def _pool(plan: MeasuringPlan, jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(plan.metrics, plan.setup, plan.rows),
    )


class _Worker:
    """What a process of the pool keeps from clip to clip."""

    measurer: ClipMeasurer


def _begin(metrics: tuple[str, ...], setup: Setup, rows: Path) -> None:
    """In each process: one thread, Ctrl-C left to the parent, which ends its processes; the metrics built."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    measure_in_one_thread()
    _Worker.measurer = ClipMeasurer(metrics, setup, rows)


def measure_in_one_thread() -> None:
    """For a process that measures beside others: one thread, and what frames take of memory kept for the next."""
    os.environ["OMP_NUM_THREADS"] = "1"
    keep_freed_memory()
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(1)


def _measure(clip: ClipEntry) -> dict[str, Row]:
    return _Worker.measurer.measure(clip)
