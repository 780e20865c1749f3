"""A session of several devices: it plans here, and its clips are made by processes of its own, one on each device."""

from __future__ import annotations

from collections.abc import Sequence

from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.clip_processes import ClipJob, ClipProcesses
from phonofilm.generation.films.part_files import PartFolder
from phonofilm.generation.films.part_runs import check_parts
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.placement.ranks import planning_session
from phonofilm.generation.report import OnProgress, silent
from phonofilm.generation.session import Session
from phonofilm.parallel.parallel_session import ParallelConfig
from phonofilm.parallel.rank import launcher_rank
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.mova import MovaPipeline


class SharedSession(Session):
    """The processes are started when the first clip needs them, and kept until `close`, a failure or a cancelled clip."""

    def __init__(
        self, checkpoint: Checkpoint, hardware: HardwareOptions, loras: Sequence[str], several: ParallelConfig
    ) -> None:
        """Raises InputError for devices that are not here, and in a process that torchrun has made one of several."""
        if launcher_rank() is not None:
            raise InputError(
                "this process is one of several that torchrun has started, and a session starts its own: run the script "
                "without torchrun"
            )
        super().__init__(checkpoint, hardware, loras, planning_session(several, hardware.device))
        self._several = several
        self._processes: ClipProcesses | None = None

    @property
    def is_loaded(self) -> bool:
        return self._processes is not None

    def close(self) -> None:
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.end()

    @property
    def pipeline(self) -> MovaPipeline:
        raise InputError("a session of several devices has a pipeline in each of their processes, and none here")

    def read_weights(self) -> None:
        """Nothing yet: the processes read theirs with the first clip."""

    def resolve(self, plans: Sequence[ClipPlan], on_progress: OnProgress = silent) -> None:
        """Nothing yet: the processes do it, each for its device."""

    def run(
        self,
        plan: ClipPlan,
        on_progress: OnProgress = silent,
        *,
        output_type: str = "pil",
        remove_video_dit: bool = False,
        kept: PartFolder | None = None,
    ) -> MovaPipelineOutput:
        if plan.parts:
            check_parts(output_type, remove_video_dit)
        if remove_video_dit or kept is not None:
            raise InputError("remove_video_dit and kept parts are for one device; use gpus=1")
        if self._processes is None:
            self._processes = ClipProcesses(self._several, self.checkpoint.name, self.hardware, self.loras)
        try:
            made = self._processes.make(ClipJob(plan.inputs, output_type), on_progress)
        except BaseException:
            self.close()
            raise
        self.placement = made.placement
        return made.output
