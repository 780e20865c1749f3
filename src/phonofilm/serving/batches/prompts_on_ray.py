"""`phonofilm generate --prompts FILE --ray`: each clip is a job of workers on Ray; files and resuming are as without."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.generation.batch import PlannedLine, plan_lines
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.prompt_file import Line
from phonofilm.generation.report import Message, OnProgress, emit
from phonofilm.generation.run import (
    OpenDisplay,
    PromptBatch,
    RunOptions,
    read_batch,
    refuse_failures,
    with_first_frames,
)
from phonofilm.generation.session import Session
from phonofilm.serving.batches.line_maker import LINE_MAKER, line_request
from phonofilm.serving.batches.own_jobs import NewWorkers, OwnWork, do_jobs
from phonofilm.serving.cluster.ray_cluster import ClusterSettings
from phonofilm.serving.cluster.ray_workers import RayWorkers
from phonofilm.serving.jobs.job import COMPLETED, Job
from phonofilm.units import format_duration


def run_on_ray(
    options: RunOptions,
    cluster: ClusterSettings,
    open_display: OpenDisplay,
    new_workers: NewWorkers = RayWorkers,
) -> list[Path]:
    """Make the clips of `options.prompts` on a cluster; the files written, in the order of their lines.

    Raises InputError for what one process would refuse too, before Ray is started, and PhonofilmError when a line failed.
    """
    if options.prompts is None:
        raise InputError("--ray shares the lines of a file among workers; add --prompts FILE")
    if options.first_frames is not None:
        options = with_first_frames(options, options.first_frames, open_display)
    with open_display() as on_progress:
        batch = read_batch(options, on_progress)
        planned = _planned(batch)
        report = _Report([clip for one in planned if one.plan is not None for clip in _clips_of(one.line)], on_progress)
        report.failures += [f"{one.line.where}: {one.fault}" for one in planned if one.fault is not None]
        for failure in report.failures:
            emit(on_progress, Message(f"error: {failure}"))
        if report.lines:
            emit(on_progress, Message(f"{len(report.lines)} clips of {options.prompts} for workers on Ray"))
            largest = max(planned, key=_tokens).line.options
            name, overwrite = batch.checkpoint.name, options.overwrite
            requests = [line_request(line, name, overwrite, largest) for line in report.lines]
            work = OwnWork(LINE_MAKER, cluster, batch.options.hardware)
            do_jobs(work, requests, report.ended, new_workers)
    refuse_failures(report.failures, len(report.failures) + len(report.written), "clips")
    return [path for number in sorted(report.written) for path in report.written[number]]


def _planned(batch: PromptBatch) -> list[PlannedLine]:
    """Every line checked here, where no weights are read; on a CPU, since the machine of the command may have no other."""
    with Session(batch.checkpoint, HardwareOptions(device="cpu")) as session:
        return plan_lines(batch.lines, session)


def _clips_of(line: Line) -> list[Line]:
    """Each clip of a line as a line of its own: workers share them, and one that dies leaves no line half done."""
    options, outputs = line.options, choose_outputs_of(line.options, overwrite=True)
    if len(outputs) == 1:
        return [line]
    return [
        Line(
            line.where,
            replace(
                options,
                num_clips=None,
                seed=None if options.seed is None else options.seed + number,
                output=one.path,
                contact_sheet=one.contact_sheet,
            ),
        )
        for number, one in enumerate(outputs)
    ]


def _tokens(one: PlannedLine) -> int:
    return 0 if one.plan is None else max(run.sampling.task.geometry.video_tokens for run in one.plan.runs)


@dataclass
class _Report:
    """Says what became of each line, and when the rest should be done."""

    lines: list[Line]
    on_progress: OnProgress
    failures: list[str] = field(default_factory=list)
    written: dict[int, list[Path]] = field(default_factory=dict)
    _ended: int = 0
    _began: float = field(default_factory=time.monotonic)

    def ended(self, number: int, job: Job) -> None:
        self._ended += 1
        where = self.lines[number].where
        if job.status == COMPLETED:
            self.written[number] = [Path(one) for one in job.made["written"]]
            names = ", ".join(job.made["written"])
            text = f"{where}: wrote {names}" if names else f"{where} is there already"
        else:
            self.failures.append(f"{where}: {job.error_message}")
            text = f"error: {self.failures[-1]}"
        left = len(self.lines) - self._ended
        each = (time.monotonic() - self._began) / self._ended
        pace = f", {format_duration(each * left)} left" if left else ""
        emit(self.on_progress, Message(f"{text} ({self._ended} of {len(self.lines)}{pace})"))
