"""Processes that make the clips of one session, each on a device of its own: what they are sent, and what comes back.

A clip is sent to every process; the first one tells how far it is and sends back what was made. When one fails, all end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from multiprocessing import Pipe, connection

from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.clip_maker import ClipMaker
from phonofilm.generation.inputs import ClipInputs
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.placement.ranks import start_on_ranks
from phonofilm.generation.report import Event, OnProgress, StepDone, emit
from phonofilm.parallel.launcher import collect
from phonofilm.parallel.parallel_session import ParallelConfig, ParallelSession
from phonofilm.parallel.rank import RankError
from phonofilm.parallel.started_ranks import StartedRanks
from phonofilm.pipeline.decode import MovaPipelineOutput

LIBRARY = "phonofilm"


@dataclass(frozen=True)
class ClipJob:
    """One clip: what it is made from, and the kind of output."""

    inputs: ClipInputs
    output_type: str


@dataclass(frozen=True)
class MadeClip:
    """What was made, and where and how it was computed."""

    output: MovaPipelineOutput
    placement: DevicePlacement


@dataclass(frozen=True)
class Logged:
    """A line of the library's log."""

    name: str
    level: int
    text: str


@dataclass(frozen=True)
class ProcessPipes:
    """The ends of the processes: where each gets its jobs, by rank, and where the first one replies."""

    jobs: tuple[connection.Connection, ...]
    replies: connection.Connection


class ClipProcesses:
    """Started processes, which wait for jobs until they are ended."""

    def __init__(self, several: ParallelConfig, model: str, hardware: HardwareOptions, loras: tuple[str, ...]) -> None:
        self._ranks, self._idle = StartedRanks(), True
        pairs = [Pipe(duplex=False) for _ in range(several.gpus)]
        self._jobs = [sender for _, sender in pairs]
        self._replies, replies = Pipe(duplex=False)
        pipes = ProcessPipes(tuple(receiver for receiver, _ in pairs), replies)
        try:
            start_on_ranks(self._ranks, several, hardware.device, make_clips_of_jobs, model, hardware, loras, pipes)
        except BaseException:
            self.end()
            raise
        finally:
            for end in (*pipes.jobs, replies):  # theirs, of which they have copies
                end.close()

    def make(self, job: ClipJob, on_progress: OnProgress) -> MadeClip:
        """Make a clip. Raises what one of them failed of; then, and when `on_progress` cancels, they must be ended."""
        self._idle = False
        try:
            for jobs in self._jobs:
                jobs.send(job)
            while True:
                connection.wait([self._replies, *self._ranks.receivers])
                if not self._replies.poll():
                    break
                reply: MadeClip | Logged | Event = self._replies.recv()
                if isinstance(reply, MadeClip):
                    self._idle = True
                    return reply
                if isinstance(reply, Logged):
                    logging.getLogger(reply.name).log(reply.level, "%s", reply.text)
                else:
                    emit(on_progress, reply)
        except (EOFError, BrokenPipeError):
            pass  # one has ended, and says why below
        collect(self._ranks)
        raise RankError("the processes of this session have ended; make the clip again")

    def end(self) -> None:
        """End them, within seconds. Those that wait for a job end of themselves, as there can be none any more."""
        for pipe in self._jobs:
            pipe.close()
        if self._idle:
            self._ranks.wait()
        self._ranks.end()
        self._replies.close()


def make_clips_of_jobs(
    ranks: ParallelSession, model: str, hardware: HardwareOptions, loras: tuple[str, ...], pipes: ProcessPipes
) -> None:
    """What a process does: the clips that it is sent, until nobody can send any more."""
    _log_to(pipes.replies if ranks.is_first else None)
    jobs = pipes.jobs[ranks.rank.number]

    def tell(event: Event) -> None:
        if ranks.is_first:
            # A preview is made by networks that are here alone.
            pipes.replies.send(replace(event, preview=None) if isinstance(event, StepDone) else event)

    with ClipMaker(open_checkpoint(model), hardware, loras, ranks) as maker:
        while True:
            try:
                job: ClipJob = jobs.recv()
            except EOFError:
                return
            plan = maker.plan_inputs(job.inputs)
            maker.resolve([plan], tell)
            out = maker.run(plan, tell, output_type=job.output_type)
            if ranks.is_first:
                pipes.replies.send(MadeClip(out, maker.placement))


class _Forwarding(logging.Handler):
    """Sends the library's log to the process of the session."""

    def __init__(self, replies: connection.Connection) -> None:
        super().__init__()
        self._replies = replies

    def emit(self, record: logging.LogRecord) -> None:
        self._replies.send(Logged(record.name, record.levelno, record.getMessage()))


def _log_to(replies: connection.Connection | None) -> None:
    """Only the first process says what all of them would say."""
    logger = logging.getLogger(LIBRARY)
    logger.propagate = False
    logger.addHandler(logging.NullHandler() if replies is None else _Forwarding(replies))
