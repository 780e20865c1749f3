"""What a fine-tuning taught the embedded model and what it forgot: a new scene and the old ones, without and with a LoRA.

Every clip is made from a held-out caption, once from text alone and, if asked, once with the first frame too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phonofilm.errors import InputError
from phonofilm.evaluation.sync import LagSummary, summarise
from phonofilm.geometry import ClipGeometry
from phonofilm.nano.world import UNSEEN_SCENES, WorldClip, make_clip
from phonofilm.pipeline.mova import MovaPipeline
from recipes.nano.measuring.generated_clips import (
    ClipMaker,
    GeneratedClip,
    MeasurePlan,
    MeasureProgress,
    Task,
    held_out_clips,
)
from recipes.nano.measuring.measure import FROM_FRAME, FROM_TEXT
from recipes.nano.measuring.measure_rows import own_row, read
from recipes.nano.measuring.novelty import TrainedOwl
from recipes.nano.measuring.owl_verdict import judge_owl

BASE, TUNED = "base", "LoRA"
MOST_TRIES = 8  # held-out clips looked at for each one that is wanted


@dataclass(frozen=True)
class Concept:
    """The new scene in one set of clips: the share of clips in which every `OwlVerdict` is true, and in which all are.

    distance: the median rhythm distance to the nearest trained clip (`Nearest`). sync: the times at which the wings go up and
    the calls begin, over the clips in which both are found.
    """

    seen: float
    colour: float
    background: float
    moves: float
    calls: float
    in_sync: float
    new: float
    all: float
    distance: float
    sync: LagSummary


@dataclass(frozen=True)
class Learned:
    """One line of the result. old: the old scenes' adherence, attribute by attribute, over their own held-out clips."""

    name: str
    concept: Concept
    old: Mapping[str, float]
    shown: tuple[GeneratedClip, ...]

    @property
    def old_mean(self) -> float:
        """Over the attributes."""
        return float(np.mean(list(self.old.values())))


@dataclass(frozen=True)
class LearnedReport:
    """Before and after, for each way of prompting: rows in pairs. truths: the new scene's held-out clips.

    truth: those clips themselves, judged as the generated ones are: what can be reached, and how near to a trained clip
    chance comes. seen_captions: held-out clips that were passed over because their caption was trained on.
    """

    scene: str
    old_clips: int
    truths: tuple[WorldClip, ...]
    rows: tuple[Learned, ...]
    truth: Concept
    seen_captions: int

    def pairs(self) -> list[tuple[Learned, Learned]]:
        """(without, with the LoRA), text alone first."""
        return list(zip(self.rows[::2], self.rows[1::2], strict=True))


def measure_learned(
    pipeline: MovaPipeline,
    put_on_lora: Callable[[MovaPipeline], object],
    folder: Path,
    plan: MeasurePlan,
    trained: Sequence[TrainedOwl],
    *,
    scene: str = "owl",
    clips: int = 24,
    first_frame: bool = False,
    on_progress: MeasureProgress | None = None,
) -> LearnedReport:
    """Make `clips` held-out clips of the new scene and `plan.clips` of the old ones, before and after `put_on_lora`.

    trained: the clips that the LoRA learnt from; their captions are not asked for, and no clip may be one of them again. The
    pipeline keeps the LoRA. Clips are kept in `folder`, and a second call takes up what is there. Raises InputError for a
    scene that is not one of the unseen ones.
    """
    if scene not in UNSEEN_SCENES:
        raise InputError(f"{scene!r} is no scene that the model can be taught; use one of {', '.join(UNSEEN_SCENES)}")
    old = held_out_clips(pipeline, plan)
    new = unseen_clips(scene, pipeline.default_geometry, plan.first_seed, clips, {owl.caption for owl in trained})
    tasks = (FROM_TEXT, FROM_FRAME) if first_frame else (FROM_TEXT,)
    found: dict[tuple[str, str], Learned] = {}
    for name in (BASE, TUNED):
        if name == TUNED:
            put_on_lora(pipeline)
        for task in tasks:
            row = f"{task.name.removeprefix('generated, ')}, {name}"
            makers = _makers(pipeline, plan, folder, row, on_progress)
            found[task.name, name] = _row(row, makers, task, new, old, trained)
    return LearnedReport(
        scene=scene,
        old_clips=plan.clips,
        truths=tuple(new),
        rows=tuple(found[task.name, name] for task in tasks for name in (BASE, TUNED)),
        truth=read_concept([GeneratedClip(truth.frames, truth.audio) for truth in new], new, trained),
        seen_captions=new[-1].seed + 1 - plan.first_seed - clips,
    )


def unseen_clips(
    scene: str, geometry: ClipGeometry, first_seed: int, count: int, captions: Collection[str]
) -> list[WorldClip]:
    """The first `count` clips, from this seed on, that have none of these captions. Raises InputError where few are left."""
    found: list[WorldClip] = []
    for seed in range(first_seed, first_seed + MOST_TRIES * count):
        clip = make_clip(
            seed,
            scene=scene,
            size=geometry.height,
            num_frames=geometry.num_frames,
            frame_rate=geometry.frame_rate,
            sampling_rate=geometry.sampling_rate,
        )
        if clip.caption not in captions:
            found.append(clip)
        if len(found) == count:
            return found
    raise InputError(
        f"only {len(found)} of {MOST_TRIES * count} held-out captions of {scene} were not trained on, and {count} are asked "
        "for; train on fewer clips"
    )


def _makers(
    pipeline: MovaPipeline, plan: MeasurePlan, folder: Path, row: str, on_progress: MeasureProgress | None
) -> tuple[ClipMaker, ClipMaker]:
    """For the new scene and for the old ones: their progress is reported under different names."""

    def progress(scenes: str) -> MeasureProgress | None:
        return on_progress and (lambda _, done, total: on_progress(f"{row}: {scenes}", done, total))

    return (
        ClipMaker(pipeline, plan, folder, progress("the new scene")),
        ClipMaker(pipeline, plan, folder, progress("the old ones")),
    )


def _row(
    name: str,
    makers: tuple[ClipMaker, ClipMaker],
    task: Task,
    new: Sequence[WorldClip],
    old: Sequence[WorldClip],
    trained: Sequence[TrainedOwl],
) -> Learned:
    shown, kept = makers[0].make(task, new), makers[1].make(task, old)
    readings = [read(clip, truth) for clip, truth in zip(kept, old, strict=True)]
    old_shares = own_row(name, readings, old).overall.adherence
    return Learned(name, read_concept(shown, new, trained), old_shares, tuple(shown))


def read_concept(shown: Sequence[GeneratedClip], truths: Sequence[WorldClip], trained: Sequence[TrainedOwl]) -> Concept:
    """Judge every clip and add up. Of the truths only the rates and what their captions name are used."""
    judged = [judge_owl(clip, truth, trained) for clip, truth in zip(shown, truths, strict=True)]

    def share(name: str) -> float:
        return float(np.mean([getattr(verdict, name) for verdict in judged]))

    return Concept(
        seen=share("seen"),
        colour=share("colour"),
        background=share("background"),
        moves=share("moves"),
        calls=share("calls"),
        in_sync=share("in_sync"),
        new=share("new"),
        all=share("all"),
        distance=float(np.median([verdict.nearest.distance for verdict in judged])),
        sync=summarise([v.matching for v in judged if v.moves and v.calls], float(1 / truths[0].frame_rate)),
    )
