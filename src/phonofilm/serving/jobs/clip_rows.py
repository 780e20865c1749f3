"""The rows of the library that a completed job gets: one for each of its clips."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from phonofilm.serving.database.clock import DatabaseNow
from phonofilm.serving.jobs.job import Job

CLIP_ID = re.compile(r"(video_[a-zA-Z0-9]{1,58})_(\d{1,4})", re.ASCII)


def clip_id(job_id: str, number: int) -> str:
    """The name of a job's clip: the job's own, and which of its clips it is."""
    return f"{job_id}_{number}"


def job_and_number(text: str) -> tuple[str, int] | None:
    """A clip's job and its place there, or None for what is no clip's name."""
    match = CLIP_ID.fullmatch(text)
    return None if match is None else (match[1], int(match[2]))


def new_clips(
    job: Job, made: Mapping[str, Any], count: int, *, title: str = "", imported: str | None = None
) -> list[dict[str, Any]]:
    """Rows of the table `clip`. `made`: what the worker says of the clips; `imported`: the file's hash."""
    seeds = list(made.get("seeds") or []) + [None] * count
    now = DatabaseNow()
    return [
        {
            "id": clip_id(job.id, number),
            "job_id": job.id,
            "number": number,
            "owner": job.owner,
            "model": job.model,
            "title": title,
            "search": search_text(job.request.prompt, title, job.model, seeds[number], ()),
            "seed": seeds[number],
            "seconds": float(made.get("seconds") or 0.0),
            "favourite": False,
            "folder": "",
            "imported": imported,
            "created_at": now,
            "changed_at": now,
        }
        for number in range(count)
    ]


def search_text(prompt: str, title: str, model: str, seed: int | None, tags: Iterable[str]) -> str:
    """What a search looks through, in lower case. PostgreSQL keeps no NUL in a text."""
    words = " ".join([title, prompt, model, "" if seed is None else str(seed), *tags])
    return words.replace("\0", "").lower()
