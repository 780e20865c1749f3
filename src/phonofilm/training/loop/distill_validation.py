"""Validation of a distillation: how far the student's clips lie from the teacher's, made from the same noise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from phonofilm.pipeline.types import Latents
from phonofilm.training.task.distill_batch import DistillBatch, DistillData
from phonofilm.training.task.distill_task import DistillTask
from phonofilm.training.task.interface import HookContext

FIRST_NUMBER = 2**41  # the noise is none that is learnt from


class TeacherDistance:
    """A hook that makes the same clips with both, as latents, every other one from text alone.

    `val/video` and `val/audio` are the squared distances over the teacher's variance, `val/mean` is of both: 0 is the
    teacher, 1 is as far as the mean of its latents, 2 is another clip of the same kind. The teacher's clips are made once.
    """

    def __init__(self, task: DistillTask, data: DistillData, clips: int, *, every: int) -> None:
        self.every, self.name = every, "validation"
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
        for (batch, noise), there in zip(batches, self._teacher, strict=True):
            here = task.student.rollout(batch, noise, task.steps)
            for track, mine, its in (("video", here.video, there.video), ("audio", here.audio, there.audio)):
                errors[track] += float((mine - its).square().sum())
                scale[track] += float((its - its.mean()).square().sum())
        values = {f"val/{track}": errors[track] / max(scale[track], 1e-12) for track in errors}
        return values | {"val/mean": (values["val/video"] + values["val/audio"]) / 2}

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
