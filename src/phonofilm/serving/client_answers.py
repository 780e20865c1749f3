"""What a server says about a job, checked before it is used: its id becomes a file's name, its state ends a wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

STATES = ("queued", "in_progress", "completed", "failed", "cancelled")
MOST_CLIPS = 1000  # of one job
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LEFT_OUT: dict[str, Any] = {
    "progress": 0,
    "error": None,
    "stage": None,
    "prompt": None,
    "num_outputs": 1,
    "expires_at": None,
    "warnings": [],
}


def checked_job(answer: Mapping[str, Any], asked: str | None = None) -> dict[str, Any]:
    """The job of an answer, with what servers of this dialect may leave out. `asked`: the id of the one that was asked for.

    Raises ValueError that says what is wrong.
    """
    job = {**_LEFT_OUT, **{name: value for name, value in answer.items() if value is not None}}
    if isinstance(job["error"], str):
        job["error"] = {"message": job["error"]}
    if not isinstance(job.get("id"), str) or _ID.fullmatch(job["id"]) is None:
        raise ValueError("it has no id of a job")
    if asked is not None and job["id"] != asked:
        raise ValueError(f"it is about another job than {asked}")
    if job.get("status") not in STATES:
        raise ValueError(f"its status is none of {', '.join(STATES)}")
    if not _is_number(job["progress"]):
        raise ValueError("its progress is no number")
    if job["expires_at"] is not None and not _is_number(job["expires_at"]):
        raise ValueError("its expires_at is no time")
    if not isinstance(job["num_outputs"], int) or not 1 <= job["num_outputs"] <= MOST_CLIPS:
        raise ValueError(f"its num_outputs is no number of clips from 1 to {MOST_CLIPS}")
    if not all(isinstance(job[name], str | None) for name in ("stage", "prompt")):
        raise ValueError("its stage or prompt is no text")
    if not isinstance(job["warnings"], list) or not all(isinstance(one, str) for one in job["warnings"]):
        raise ValueError("its warnings are no list of texts")
    if not isinstance(job["error"], Mapping | None):
        raise ValueError("its error is no object")
    if job["error"] is not None:
        job["error"] = {**job["error"], "message": str(job["error"].get("message"))}
    return job


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
