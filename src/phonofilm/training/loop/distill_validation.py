"""Validation of a distillation: how far the student's clips lie from the teacher's, made from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import torch

from phonofilm.media.clip import Clip
from phonofilm.pipeline.types import Latents
from phonofilm.training.task.distill_batch import DistillBatch, DistillData
from phonofilm.training.task.distill_task import DistillTask
from phonofilm.training.task.interface import HookContext

FIRST_NUMBER = 2**41  # the noise is none that is learnt from


class ClipReader(Protocol):
    """Reads off clips whether picture and sound agree, where it knows what is in them."""

    def fits(self, height: int, width: int) -> bool:
        """Whether clips of this size can be read at all: decoding them takes time."""

    def __call__(self, clips: Sequence[Clip]) -> Mapping[str, float]:
        """Figures by name; none where it recognises nothing."""


class TeacherDistance:
    """A hook that makes the same clips with both, as latents, every other one from text alone.

    `val/video` and `val/audio` are the squared distances over the teacher's variance, `val/mean` is of both: 0 is the
    teacher, 1 is as far as the mean of its latents, 2 is another clip of the same kind. The teacher's clips are made once.

    `read`: makes figures of the clips that latents stand for; `val/sync/NAME` are those of the student's, and
    `val/sync/teacher/NAME` of the teacher's, to be held against them.
    """

    def __init__(
        self,
        task: DistillTask,
        data: DistillData,
        clips: int,
        *,
        every: int,
        read: Callable[[Sequence[Latents]], Mapping[str, float]] = lambda made: {},
    ) -> None:
        self.every, self.name = every, "validation"
        self._read = read
        self._task, self._data, self._count = task, data, clips
        self._teacher: list[Latents] = []

    def __call__(self, moment: HookContext) -> dict[str, float]:
        task = self._task
        task.model.eval()
        batches = list(self._batches())
        if not self._teacher:
            for batch, noise in batches:
                now = noise
                for step in task.steps:
                    now = task.teacher.rollout(batch, now, task.grid.substeps(step, task.distill.stored.substeps))
                self._teacher.append(now)
        errors = {"video": 0.0, "audio": 0.0}
        scale = {"video": 0.0, "audio": 0.0}
        made = [task.student.rollout(batch, noise, task.steps) for batch, noise in batches]
        for here, there in zip(made, self._teacher, strict=True):
            for track, mine, its in (("video", here.video, there.video), ("audio", here.audio, there.audio)):
                errors[track] += float((mine - its).square().sum())
                scale[track] += float((its - its.mean()).square().sum())
        values = {f"val/{track}": errors[track] / max(scale[track], 1e-12) for track in errors}
        read = {"val/sync": self._read(made), "val/sync/teacher": self._read(self._teacher)}
        synced = {f"{of}/{name}": value for of, figures in read.items() for name, value in figures.items()}
        return values | {"val/mean": (values["val/video"] + values["val/audio"]) / 2} | synced

    def _batches(self) -> Iterator[tuple[DistillBatch, Latents]]:
        """The first clips of every bucket, in batches of the training's size; their noise is that of their number."""
        task, size = self._task, self._task.config.batch_size
        number = FIRST_NUMBER
        share = -(-self._count // len(self._data.clips.buckets))
        for bucket, entries in self._data.clips.buckets.items():
            chosen = list(islice(entries, share))
            for first in range(0, len(chosen), size):
                batch = self._data.batch_of(bucket, chosen[first : first + size], task.device)
                hidden = torch.arange(first, first + batch.size) % 2 == 1
                yield task.hide(batch, bucket, hidden), batch.noise([number + i for i in range(batch.size)])
                number += batch.size
