"""What the warm start of a distillation takes, which is made before the first update: measured on one step of the teacher."""

from __future__ import annotations

from collections import defaultdict

from phonofilm.training.dry_run.estimate import WarmStartCost
from phonofilm.training.dry_run.layer_depth import at_each_depth, at_full_depth
from phonofilm.training.dry_run.stopwatch import Stopwatch
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.distill_task import STATES, DistillTask
from phonofilm.training.task.stored_states import StoredStates


def warm_start_cost(task: DistillTask, trainer: Trainer, watch: Stopwatch) -> WarmStartCost | None:
    """What the clips take that are not in the run's folder yet; None where there are none to make."""
    if not task.distill.stored.updates:
        return None
    states = StoredStates(task, trainer.folder / STATES)
    groups: dict[str, list[int]] = defaultdict(list)
    for group in states.missing():
        groups[task.clips.bucket_at(group, task.config.batch_size)].append(group)
    if not groups:
        return None
    measured = [_group_cost(task, trainer, states, of_bucket[0], watch) for of_bucket in groups.values()]
    counts = [len(of_bucket) for of_bucket in groups.values()]
    makers = trainer.accelerator.num_processes // task.processes_per_clip
    return WarmStartCost(
        sum(counts) * task.config.batch_size,
        sum(count * seconds for count, (seconds, _) in zip(counts, measured, strict=True)) / makers,
        sum(count * nbytes for count, (_, nbytes) in zip(counts, measured, strict=True)),
    )


def _group_cost(
    task: DistillTask, trainer: Trainer, states: StoredStates, group: int, watch: Stopwatch
) -> tuple[float, int]:
    """Seconds and bytes of one group."""
    batch, noise = states.begin(group, task.device)
    steps = task.grid.substeps(task.steps[0], task.distill.stored.substeps)

    def one_step() -> None:
        with trainer.accelerator.autocast():
            task.teacher.rollout(batch, noise, steps[:1])

    model = task.teacher.model
    seconds = at_full_depth(model, at_each_depth(model, lambda: watch(one_step)))
    return seconds * len(steps) * len(task.steps), states.nbytes(noise)
