"""How long clips take, by those that were made here: one that is planned, and all that runs and waits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import select

from phonofilm.geometry import parse_frame_rate
from phonofilm.serving.api.services import Services
from phonofilm.serving.database.tables import JOB
from phonofilm.serving.jobs.job import COMPLETED, IN_PROGRESS, QUEUED, Job, job_of
from phonofilm.serving.studio.objects import seconds_left
from phonofilm.serving.studio.plan_work import PlannedClip

REMEMBERED = 200
MOST_COUNTED = 1000
MIDDLE_OF = 5
Made = dict[str, Any]


def measured_seconds(services: Services, model: str, clip: PlannedClip) -> float | None:
    """What clips of this size have taken here, the middle of the last ones; None while there was none.

    Of one that is longer, shorter or made in several parts, by its share of their work.
    """
    alike = [one for one in _made_here(services, model) if one.get("size") == f"{clip.width}x{clip.height}"]
    sizes = (clip.num_frames, clip.steps, clip.work)
    same = [
        _each(one) for one in alike if (one.get("num_frames"), one.get("steps"), one.get("work", clip.work)) == sizes
    ]
    return _middle(same or [_each(one) * clip.work / one["work"] for one in alike if one.get("work")])


def queue_seconds(services: Services, unknown: float) -> tuple[float, float]:
    """How long what runs still takes, and what waits: each by its own size and number of clips.

    Where no clip of a model was made yet, `unknown` seconds for each of its clips: what waits is like what is planned.
    """
    statement = select(JOB).where(JOB.c.status.in_((QUEUED, IN_PROGRESS))).limit(MOST_COUNTED)
    with services.database.read() as connection:
        jobs = [job_of(row) for row in connection.execute(statement).mappings()]
    made_here = cache(lambda model: _made_here(services, model))
    now = time.time()
    running, waiting = 0.0, 0.0
    for job in jobs:
        left = seconds_left(job, now)
        if left is None:  # nothing of it says how fast it goes
            each = _expected(job, services.facts(job.model) or {}, made_here(job.model))
            lacking = len(job.request.seeds) - len(job.outputs)
            left = lacking * (unknown if each is None else each)
        if job.status == QUEUED:
            waiting += left
        elif job.step or job.started_at is None:
            running += left
        else:
            running += max(0.0, left - (now - job.started_at))
    return round(running, 2), round(waiting, 2)


def _made_here(services: Services, model: str) -> Sequence[Made]:
    """What is known of the last clips of a model, the newest first."""
    statement = (
        select(JOB.c.made)
        .where(JOB.c.status == COMPLETED, JOB.c.model == model)
        .order_by(JOB.c.completed_at.desc())
        .limit(REMEMBERED)
    )
    with services.database.read() as connection:
        made = connection.execute(statement).scalars().all()
    return [one for one in made if "inference_time_s" in one]


def _each(made: Made) -> float:
    return float(made["inference_time_s"]) / max(1, len(made.get("seeds") or [None]))


def _middle(seconds: Sequence[float]) -> float | None:
    return round(statistics.median(seconds[:MIDDLE_OF]), 2) if seconds else None


def _expected(job: Job, facts: Mapping[str, Any], made: Sequence[Made]) -> float | None:
    """Seconds for each clip of a job: as clips of the same sizes took, or else by its share of what others took."""
    options = job.request.options
    rate = float(parse_frame_rate(str(options.get("fps") or facts.get("fps", "24"))))
    seconds = options.get("seconds")
    sizes = {
        "size": options.get("size") or (f"{facts['width']}x{facts['height']}" if facts else None),
        "num_frames": options.get("num_frames") or (round(seconds * rate) if seconds else facts.get("num_frames")),
        "steps": options.get("steps") or facts.get("steps"),
    }
    shares = [(_each(one), _share(sizes, one)) for one in made]
    return _middle(
        [each for each, share in shares if abs(share - 1) < 0.05] or [each * share for each, share in shares]
    )


def _share(sizes: Mapping[str, Any], made: Made) -> float:
    """The pixels, frames and steps of `sizes` over those of a clip; what one of them does not say counts as equal."""
    pairs = [(_amount(sizes[name]), _amount(made.get(name))) for name in sizes]
    share = 1.0
    for wanted, there in pairs:
        share *= wanted / there if wanted and there else 1.0
    return share


def _amount(value: Any) -> float | None:
    """A number, or the pixels of "64x48"; None for a size by name."""
    width, _, height = str(value).partition("x")
    if height:
        return float(width) * float(height) if width.isdecimal() and height.isdecimal() else None
    return float(value) if isinstance(value, int | float) else None
