"""The warm start of a distillation: states of the teacher's clips at the ends of the student's steps, kept in files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from phonofilm.errors import CheckpointError
from phonofilm.files import replacing
from phonofilm.models.fingerprint import fingerprint
from phonofilm.notices import NOTICE
from phonofilm.pipeline.types import Latents
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.loop.processes import join_processes
from phonofilm.training.task.distill_batch import DistillBatch
from phonofilm.training.task.latent_dataset import ShuffledOrder
from phonofilm.units import format_gigabytes

if TYPE_CHECKING:
    from phonofilm.training.task.distill_task import DistillTask

logger = logging.getLogger(__name__)

# Clips of the warm start are counted from here, so that none starts from the noise of an update.
FIRST_NUMBER = 2**40
DIGEST = "digest"
REMEDY = "delete it and go on with --resume, which makes it again"


class StoredStates:
    """Groups of one micro-batch each: float16 states after every step of the student, under the hash of all that decides them.

    `make` makes what is missing.
    """

    def __init__(self, task: DistillTask, folder: Path) -> None:
        self._task, self._size = task, task.config.batch_size
        stored, config = task.distill.stored, task.config
        self._groups = max(1, stored.trajectories // self._size)
        self._order = ShuffledOrder(self._groups, task.config.seed)
        decides = [
            task.content,
            fingerprint(task.layout),
            [task.device.type, config.precision, config.base_dtype, config.quantize, config.full is not None],
            config.seed,
            self._size,
            config.objective.first_frame_dropout,
            stored.substeps,
            [repr(step) for step in task.steps],
            repr(task.teacher.guidance),
            task.data.negative,
            task.teacher.boundary,
        ]
        self.folder = folder / digest(decides)

    def group_at(self, number: int, device: torch.device) -> tuple[DistillBatch, list[Latents]]:
        """What a group's clips are given, and their states from noise to the end, for the `number`-th micro-batch drawn."""
        group = int(self._order.rows(number, 1))
        batch, noise = self.begin(group, device)
        tensors = read_states(self._path(group))
        pairs = zip(tensors["video"].to(device).float(), tensors["audio"].to(device).float(), strict=True)
        return batch, [noise, *(Latents(video, audio) for video, audio in pairs)]

    def begin(self, group: int, device: torch.device) -> tuple[DistillBatch, Latents]:
        """What a group's clips are given, and their noise."""
        task, first = self._task, FIRST_NUMBER + group * self._size
        batch = task.data.batch(group, self._size, device)
        return task.begin(batch, task.clips.bucket_at(group, self._size), range(first, first + self._size))

    def missing(self) -> list[int]:
        """The groups that have no file yet."""
        return [group for group in range(self._groups) if not self._path(group).exists()]

    def nbytes(self, noise: Latents) -> int:
        """Bytes of a group's states in float16, by its noise."""
        return 2 * len(self._task.steps) * (noise.video.numel() + noise.audio.numel())

    def make(self) -> None:
        """Make the groups that are missing. Every process makes its share, all of them the same number, for some models
        compute only together."""
        task = self._task
        state = join_processes(task.config)
        missing = self.missing()
        state.wait_for_everyone()
        if not missing:
            return
        sharing = task.processes_per_clip
        makers = state.num_processes // sharing
        mine, writes = state.process_index // sharing, state.process_index % sharing == 0
        rounds = -(-len(missing) // makers)
        each = len(task.steps) * task.distill.stored.substeps * len(task.teacher.guidance.evaluations)
        if state.is_main_process:
            clips = len(missing) * self._size
            logger.log(
                NOTICE, "warm start: %d clips of the teacher, %d forwards each, into %s", clips, each, self.folder
            )
        for turn in range(rounds):
            place = turn * makers + mine
            states = self._walk(missing[min(place, len(missing) - 1)], task.device)
            if writes and place < len(missing):
                write_states(self._path(missing[place]), states)
            if state.is_main_process and (turn + 1) % max(1, rounds // 10) == 0:
                logger.log(
                    NOTICE, "warm start: %d of %d clips", (turn + 1) * makers * self._size, len(missing) * self._size
                )
        state.wait_for_everyone()

    def _walk(self, group: int, device: torch.device) -> dict[str, Tensor]:
        task = self._task
        batch, now = self.begin(group, device)
        states = []
        for step in task.steps:
            now = task.teacher.rollout(batch, now, task.grid.substeps(step, task.distill.stored.substeps))
            states.append(now)
        return {
            "video": torch.stack([state.video for state in states]).half().cpu(),
            "audio": torch.stack([state.audio for state in states]).half().cpu(),
        }

    def _path(self, group: int) -> Path:
        return self.folder / f"{group:06d}.safetensors"


def write_states(path: Path, states: Mapping[str, Tensor]) -> None:
    """A file of states with their digest. Raises CheckpointError when it cannot be written, leaving nothing behind."""
    try:
        with replacing(path, error=CheckpointError) as temporary:
            save_file(dict(states), temporary, {DIGEST: digest(states)})
    except SafetensorError as error:
        free = format_gigabytes(shutil.disk_usage(path.parent).free)
        raise CheckpointError(
            f"the clips of the warm start cannot be written to {path.parent}: {error}; {free} are free there. Make room, or "
            "set distill.stored.trajectories lower, and go on with --resume; clips that are made already are kept"
        ) from error


def read_states(path: Path) -> dict[str, Tensor]:
    """The states of a file. Raises CheckpointError when they are not those that were written."""
    try:
        with safe_open(path, framework="pt") as file:
            states = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            written = (file.metadata() or {}).get(DIGEST)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {REMEDY}") from error
    if written != digest(states):
        raise CheckpointError(f"{path} does not hold the states that were written to it; {REMEDY}")
    return states
