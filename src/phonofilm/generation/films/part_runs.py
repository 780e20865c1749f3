"""A clip that takes several runs of the model, made run by run: each goes on from what the ones before it have made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from phonofilm.errors import InputError
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.films.part_files import Part, PartFolder
from phonofilm.generation.options import MAX_SEED
from phonofilm.generation.report import Message, OnProgress, emit
from phonofilm.parallel.parallel_session import ParallelSession
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.units import format_duration


def check_parts(output_type: str, remove_video_dit: bool) -> None:
    """Raises InputError for what a clip in parts cannot be asked for."""
    if output_type == "latent":
        raise InputError("a clip that is made in parts has no latents of its own; write mp4, webm or frames")
    if remove_video_dit:
        raise InputError("remove_video_dit leaves nothing to begin a second part with; leave it out")


# Far apart, so that the parts of a clip and the clips of neighbouring seeds have no start noise in common.
SEEDS_APART = 1_000_003
MakePart = Callable[[ClipPlan, OnProgress], MovaPipelineOutput]


def run_parts(
    plan: ClipPlan,
    make: MakePart,
    on_progress: OnProgress,
    kept: PartFolder | None = None,
    ranks: ParallelSession | None = None,
) -> MovaPipelineOutput:
    """The clip of a plan in parts, as arrays.

    Args:
        make: runs the plan of one part; in processes other than the first, whose clip they get, it returns latents.
        kept: where finished parts are kept (in the first process); those that are there are not made again.
        ranks: the processes that share the work.
    """
    so_far = plan.inputs.tracks.video
    forwards = steps_skipped = 0
    spent: list[float] = []
    for number, part in enumerate(plan.parts, start=1):
        found = None if kept is None else kept.load(number, part.frame_rate, part.sampling_rate)
        is_there = found is not None if ranks is None else bool(ranks.agree(int(found is not None)))
        made = None if found is None else found.clip
        which = f"part {number} of {len(plan.parts)}"
        if is_there:
            emit(on_progress, Message(f"{which} is there already: {part.about}"))
            if found is not None:
                forwards, steps_skipped = forwards + found.forwards, steps_skipped + found.steps_skipped
        else:
            each = sum(spent) / len(spent) if spent else 0.0
            left = f"; about {format_duration(each * (len(plan.parts) - number + 1))} left" if spent else ""
            emit(on_progress, Message(f"{which}: {part.about}{left}"))
            began = time.monotonic()
            seed = (plan.seed + (number - 1) * SEEDS_APART) % MAX_SEED
            out = make(replace(part.given(part.plan, so_far), seed=seed), on_progress)
            forwards, steps_skipped = forwards + out.forwards, steps_skipped + out.steps_skipped
            if ranks is None or ranks.is_first:
                (made,) = out.clips()
            spent.append(time.monotonic() - began)
        if ranks is not None:
            made = ranks.share_clip(made, part.frame_rate, part.sampling_rate)
        assert made is not None
        if kept is not None and not is_there:
            kept.keep(number, Part(made, out.forwards, out.steps_skipped))
        so_far = part.join(part.plan, so_far, made)
    assert so_far is not None
    assert so_far.sampling_rate is not None
    return MovaPipelineOutput(
        [so_far.frames], [so_far.audio], so_far.sampling_rate, so_far.frame_rate, forwards, steps_skipped
    )
