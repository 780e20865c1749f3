"""What a fine-tuning taught the embedded model and what it forgot: a new scene and the old ones, without and with a LoRA.

Every clip is made from a held-out caption, once from text alone and, if asked, once with the first frame too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phonofilm.errors import InputError
from phonofilm.evaluation.sync import LagSummary, match, summarise
from phonofilm.nano.world import UNSEEN_SCENES, WorldClip, make_clip
from phonofilm.pipeline.mova import MovaPipeline
from recipes.nano.measuring.generated_clips import ClipMaker, Plan, Progress, Shown, Task, held_out_clips
from recipes.nano.measuring.measure import FROM_FRAME, FROM_TEXT
from recipes.nano.measuring.measure_rows import own_row, read
from recipes.nano.measuring.owl_reader import hear_owl, see_owl

BASE, TUNED = "base", "LoRA"


@dataclass(frozen=True)
class Concept:
    """The new scene in one set of clips, as shares: it is seen; it is seen in the told colour; its sound is heard; all
    three. sync: the times at which it is seen and heard to act, over the clips in which it is both."""

    seen: float
    colour: float
    heard: float
    all: float
    sync: LagSummary


@dataclass(frozen=True)
class Learned:
    """One line of the result. old: the old scenes' adherence, attribute by attribute, over their own held-out clips."""

    name: str
    concept: Concept
    old: Mapping[str, float]
    shown: tuple[Shown, ...]

    @property
    def old_mean(self) -> float:
        """Over the attributes."""
        return float(np.mean(list(self.old.values())))


@dataclass(frozen=True)
class LearnedReport:
    """Before and after, for each way of prompting: rows in pairs. truths: the new scene's held-out clips."""

    scene: str
    old_clips: int
    truths: tuple[WorldClip, ...]
    rows: tuple[Learned, ...]

    def pairs(self) -> list[tuple[Learned, Learned]]:
        """(without, with the LoRA), text alone first."""
        return list(zip(self.rows[::2], self.rows[1::2], strict=True))


def measure_learned(
    pipeline: MovaPipeline,
    put_on_lora: Callable[[MovaPipeline], object],
    folder: Path,
    plan: Plan,
    *,
    scene: str = "owl",
    clips: int = 24,
    first_frame: bool = False,
    on_progress: Progress | None = None,
) -> LearnedReport:
    """Make `clips` held-out clips of the new scene and `plan.clips` of the old ones, before and after `put_on_lora`.

    The pipeline keeps the LoRA. Clips are kept in `folder`, and a second call takes up what is there. Raises InputError
    for a scene that is not one of the unseen ones.
    """
    if scene not in UNSEEN_SCENES:
        raise InputError(f"{scene!r} is no scene that the model can be taught; use one of {', '.join(UNSEEN_SCENES)}")
    old = held_out_clips(pipeline, plan)
    geometry = pipeline.default_geometry
    new = [
        make_clip(
            plan.first_seed + i,
            scene=scene,
            size=geometry.height,
            num_frames=geometry.num_frames,
            frame_rate=geometry.frame_rate,
            sampling_rate=geometry.sampling_rate,
        )
        for i in range(clips)
    ]
    tasks = (FROM_TEXT, FROM_FRAME) if first_frame else (FROM_TEXT,)
    found: dict[tuple[str, str], Learned] = {}
    for name in (BASE, TUNED):
        if name == TUNED:
            put_on_lora(pipeline)
        for task in tasks:
            told = f"{task.name.removeprefix('generated, ')}, {name}"
            found[task.name, name] = _row(told, _makers(pipeline, plan, folder, told, on_progress), task, new, old)
    rows = tuple(found[task.name, name] for task in tasks for name in (BASE, TUNED))
    return LearnedReport(scene, plan.clips, tuple(new), rows)


def _makers(
    pipeline: MovaPipeline, plan: Plan, folder: Path, row: str, on_progress: Progress | None
) -> tuple[ClipMaker, ClipMaker]:
    """For the new scene and for the old ones: they tell of their progress under different names."""

    def told(scenes: str) -> Progress | None:
        return on_progress and (lambda _, done, total: on_progress(f"{row}: {scenes}", done, total))

    return (
        ClipMaker(pipeline, plan, folder, told("the new scene")),
        ClipMaker(pipeline, plan, folder, told("the old ones")),
    )


def _row(
    name: str, makers: tuple[ClipMaker, ClipMaker], task: Task, new: Sequence[WorldClip], old: Sequence[WorldClip]
) -> Learned:
    shown, kept = makers[0].make(task, new), makers[1].make(task, old)
    readings = [read(clip, truth) for clip, truth in zip(kept, old, strict=True)]
    return Learned(name, read_concept(shown, new), own_row(name, readings, old).overall.adherence, tuple(shown))


def read_concept(shown: Sequence[Shown], truths: Sequence[WorldClip]) -> Concept:
    """Look for the owl in every clip and listen for it. Of the truths only rates and the told colour are used."""
    sights = [see_owl(clip.frames, truth.frame_rate) for clip, truth in zip(shown, truths, strict=True)]
    calls = [hear_owl(clip.audio, truth.sampling_rate) for clip, truth in zip(shown, truths, strict=True)]
    seen = np.array([sight.seen for sight in sights])
    coloured = np.array([s.colour == truth.attributes["colour"] for s, truth in zip(sights, truths, strict=True)])
    heard = np.array([bool(call) for call in calls])
    both = [match(s.events, c) for s, c in zip(sights, calls, strict=True) if s.seen and c]
    return Concept(
        seen=float(seen.mean()),
        colour=float(coloured.mean()),
        heard=float(heard.mean()),
        all=float((coloured & heard).mean()),
        sync=summarise(both, float(1 / truths[0].frame_rate)),
    )
