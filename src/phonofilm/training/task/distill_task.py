"""Distillation as a task for the loop: the model with adapters learns to do in a few steps what it does without in many.

On-policy trajectory imitation (pi-Flow, arXiv 2510.14974, with a plain squared error), after a warm start on stored states.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phonofilm.data.windows import parse_bucket
from phonofilm.errors import InputError
from phonofilm.models.config_check import FEW_STEPS_KEY
from phonofilm.models.layout import CheckpointLayout
from phonofilm.pipeline.call_arguments import Defaults
from phonofilm.pipeline.few_steps import (
    FewSteps,
    few_step_settings,
    index_entries,
    step_experts,
)
from phonofilm.pipeline.guidance import Evaluation, Guidance
from phonofilm.pipeline.sampling import CLEAN
from phonofilm.pipeline.schedule import FlowMatchPairScheduler, Step
from phonofilm.pipeline.types import Latents
from phonofilm.training.config.distill_config import DistillConfig
from phonofilm.training.config.finetune_config import HELD_WITHOUT_CLIPS, FinetuneConfig
from phonofilm.training.config.training_config import ObjectiveConfig
from phonofilm.training.loop.metrics_log import SumAndCount
from phonofilm.training.task.adapter_switch import adapters_off
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.distill_batch import DistillBatch, DistillData, Held
from phonofilm.training.task.finetune_task import FinetuneTask
from phonofilm.training.task.interface import BatchIndex, TaskLoss
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.objective import still_learnt
from phonofilm.training.task.segment_turns import SegmentTurns
from phonofilm.training.task.stored_states import StoredStates
from phonofilm.training.task.trajectories import UNGUIDED, Grid, Policy, mean_velocity
from phonofilm.training.task.weight_placement import ResidentWeights, WeightPlacement

# The folder of the warm start's clips in a run's.
STATES = "states"


@dataclass(frozen=True)
class Lesson:
    """One forward of the student and what it should answer: at `state`, in `step`, the `target` velocities.

    learn_video, learn_audio [b]: 0 where a track is held, or a held one is missing, and so is no target.
    """

    batch: DistillBatch
    step: Step
    state: Latents
    target: Latents
    learn_video: Tensor
    learn_audio: Tensor


class DistillTask(FinetuneTask):
    """The student, its teacher, what both are given, and which step is learnt when. Raises InputError as FinetuneTask.

    few_steps: what the student must be sampled with. steps: its grid. Set before training: `stored`, the warm start.
    """

    def __init__(
        self,
        model: JointModel,
        clips: CachedClips,
        data: DistillData,
        config: FinetuneConfig,
        objective: ObjectiveConfig,
        placement: WeightPlacement,
        layout: CheckpointLayout,
    ) -> None:
        assert config.distill is not None
        self.distill: DistillConfig = config.distill
        self.data = data
        # Of whole weights there must be a second copy; of adapters the model without them is the teacher.
        self._copy = None if config.full is None else copy.deepcopy(model).requires_grad_(False)
        self._copy_placement = ResidentWeights()
        super().__init__(model, clips, config, objective, placement, layout)
        scheduler = FlowMatchPairScheduler(**layout.scheduler_config)
        shifts = objective.timesteps.video_shift, objective.timesteps.audio_shift
        train_timesteps = scheduler.config["num_train_timesteps"]
        self.few_steps: FewSteps = few_step_settings(
            scheduler, self.distill.steps, *shifts, objective.timesteps.boundary_ratio
        )
        self.steps = scheduler.steps(self.distill.steps, *shifts)
        self.grid = Grid(*shifts, train_timesteps)
        self.turns = SegmentTurns(
            config,
            step_experts(self.steps, self.few_steps.boundary_ratio, train_timesteps, 2 if model.low else 1),
        )
        self.teacher = self._teacher(layout, train_timesteps)
        self.student = Policy(
            model, nullcontext, placement.activate, self.few_steps.boundary_ratio * train_timesteps, UNGUIDED
        )
        self.stored: StoredStates | None = None

    def _check_sound(self) -> None:
        """Clips without sound teach as well as others: what is learnt is what the teacher makes of their captions."""
        objective = self.config.objective
        if self.clips.captions_only and (objective.hold_video or objective.hold_audio):
            raise InputError(HELD_WITHOUT_CLIPS)

    def _teacher(self, layout: CheckpointLayout, train_timesteps: int) -> Policy:
        usual, given = Defaults(**(layout.scalars.defaults or {})), self.distill
        text = usual.guidance_scale if given.guidance_scale is None else given.guidance_scale
        sound = text if given.audio_guidance_scale is None else given.audio_guidance_scale
        modality = usual.modality_scale if given.modality_scale is None else given.modality_scale
        boundary = self.objective.timesteps.boundary_ratio * train_timesteps
        guidance = Guidance(text, sound, modality)
        if self._copy is None:
            return Policy(self.model, self._without_adapters, self.placement.activate, boundary, guidance)
        return Policy(self._copy, nullcontext, self._copy_placement.activate, boundary, guidance)

    def _without_adapters(self) -> AbstractContextManager[None]:
        return adapters_off(self.model)

    def prepare(self, device: torch.device) -> None:
        super().prepare(device)
        if self._copy is not None:
            self._copy_placement.place(self._copy, device)

    def loss(self, model: nn.Module, index: BatchIndex) -> TaskLoss:
        lesson, segment, held = self.lesson(index)
        velocity = self.student.velocity(lesson.batch, lesson.step, lesson.state, Evaluation.PROMPT)
        weights = still_learnt(self.config.objective, index.halted)
        errors = {
            "video": (velocity.video - lesson.target.video).square().flatten(1).mean(1),
            "audio": (velocity.audio - lesson.target.audio).square().flatten(1).mean(1),
        }
        learn = {"video": lesson.learn_video, "audio": lesson.learn_audio}
        total = sum(
            (
                weight * (errors[track] * learn[track].to(errors[track].device)).mean()
                for track, weight in (("video", weights.video_weight), ("audio", weights.audio_weight))
            ),
            start=torch.zeros((), device=velocity.video.device),
        )
        expert = self.student.expert(lesson.step)
        found = {track: error.detach() for track, error in errors.items()}
        return TaskLoss(total, lambda: _report(found, learn, expert, segment, held), lesson.batch.names)

    @torch.no_grad()
    def lesson(self, index: BatchIndex) -> tuple[Lesson, int, Held]:
        """What a micro-step teaches, the number of its step and which track is held."""
        warm = self.stored is not None and index.step < self.distill.stored.updates
        turn = self.turns.at(index.step, index.micro, held=not warm)
        if warm:
            assert self.stored is not None
            number = index.first_draw(self.config.batch_size) // self.config.batch_size
            batch, states = self.stored.group_at(number, self._device)
            step, state, end = self.steps[turn.segment], states[turn.segment], states[turn.segment + 1]
        else:
            first = index.first_draw(self.config.batch_size)
            batch, noise = self._given(first, self._device, turn.held)
            steps = [_held(step, turn.held) for step in self.steps]
            step = steps[turn.segment]
            state = self.student.rollout(batch, noise, steps[: turn.segment])
            end = self.teacher.rollout(batch, state, self.grid.substeps(step, self.distill.substeps))
        heard = batch.sound.float() if turn.held != "none" else torch.ones(batch.size)
        lesson = Lesson(
            batch,
            step,
            state,
            mean_velocity(state, end, step),
            learn_video=heard if turn.held != "video" else torch.zeros(batch.size),
            learn_audio=heard if turn.held != "audio" else torch.zeros(batch.size),
        )
        return lesson, turn.segment, turn.held

    def _given(self, first: int, device: torch.device, held: Held) -> tuple[DistillBatch, Latents]:
        """What the clips from draw `first` on are given, and their noise; a held track is the clip's own."""
        size = self.config.batch_size
        batch = self.data.batch(first // size, size, device, tracks=held != "none")
        batch, noise = self.begin(batch, self.clips.bucket_at(first // size, size), range(first, first + size))
        if batch.clean is not None:
            noise = Latents(
                batch.clean.video if held == "video" else noise.video,
                batch.clean.audio if held == "audio" else noise.audio,
            )
        return batch, noise

    def begin(self, batch: DistillBatch, bucket: str, numbers: range) -> tuple[DistillBatch, Latents]:
        """The batch with some first frames hidden, and its start noise, both by the clips' numbers."""
        seeds = [(self.config.seed * 1_000_003 + 2 * number + 1) % 2**61 for number in numbers]
        drawn = [float(torch.rand((), generator=torch.Generator().manual_seed(seed + 1))) for seed in seeds]
        hidden = torch.tensor(drawn) < self.config.objective.first_frame_dropout
        return self.hide(batch, bucket, hidden), batch.noise(seeds)

    def hide(self, batch: DistillBatch, bucket: str, hidden: Tensor) -> DistillBatch:
        """The batch with the frames of the clips in `hidden` [b] replaced by a white first one, which means text alone."""
        white = self.data.white(bucket, batch.condition.device).view(1, *batch.condition.shape[1:])
        where = hidden.to(white.device).view(-1, 1, 1, 1, 1)
        return replace(batch, condition=torch.where(where, white, batch.condition))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    def before_training(self, output: Path, step: int) -> None:
        """Make the warm start's states, those that are not in the run's folder yet, if an update is still to learn from them.
        Every process makes its share."""
        if step < min(self.distill.stored.updates, self.config.max_steps or self.distill.stored.updates):
            self.stored = StoredStates(self, output / STATES)
            self.stored.make()

    def scalars(self) -> dict[str, Any]:
        """Its settings, also under the names that any reader of a checkpoint takes for its defaults."""
        bucket = parse_bucket(next(iter(self.clips.buckets)))
        sizes = {"height": bucket.height, "width": bucket.width, "num_frames": bucket.frames}
        return index_entries(self.few_steps, self.layout.scalars.defaults or sizes)

    def metadata(self, step: int) -> dict[str, str]:
        return super().metadata(step) | {FEW_STEPS_KEY: self.few_steps.as_json()}


def _held(step: Step, held: Held) -> Step:
    """The step with the held track clean, as the sampler has it."""
    return replace(step, video=CLEAN if held == "video" else step.video, audio=CLEAN if held == "audio" else step.audio)


def _report(
    errors: Mapping[str, Tensor], learn: Mapping[str, Tensor], expert: str, segment: int, held: Held
) -> dict[str, SumAndCount]:
    """Sums and counts by modality, and by expert, step and modality, over the samples that were learnt from."""
    report: dict[str, SumAndCount] = {}
    for track, error in errors.items():
        count = float(learn[track].sum())
        if count:
            found = (float((error.cpu() * learn[track]).sum()), count)
            report[f"loss/{track}"] = found
            report[f"loss/{expert}/{track}/step-{segment}" + ("" if held == "none" else f"/{held}-held")] = found
    return report
