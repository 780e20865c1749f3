"""A job as the table has it, and what it asks for. Statements about jobs are in the other modules of this folder."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import RowMapping

QUEUED, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = "queued", "in_progress", "completed", "failed", "cancelled"
ENDED = (COMPLETED, FAILED, CANCELLED)
# The stage of a job that runs and is to be cancelled.
CANCELLING = "cancelling"
# A job that was running when its worker died or fell silent this many times is not tried again.
STRIKES = 3
# Begins the name of a keyframe among a request's files and addresses; its seconds follow.
KEYFRAME = "keyframe:"


@dataclass(frozen=True)
class JobRequest:
    """What a job is to make.

    options: those of `phonofilm generate` by their names, without files, LoRAs and seed. inputs: stored files by option;
    urls: addresses to fetch by option (a keyframe's option is KEYFRAME and its seconds). loras: names from the operator's
    list, each with ":STRENGTH" where one was given. seeds: one for each clip; None where the worker chooses. warnings: what
    the answer says was ignored. sources: of the inputs that are clips of the library, their names by option; hashes: SHA-256
    of the inputs by option; variation_of: the clip of which this is one with another seed.
    """

    options: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    loras: list[str] | None = None
    seeds: list[int | None] = field(default_factory=lambda: [None])
    warnings: list[str] = field(default_factory=list)
    enhance_prompt: bool = False
    draw_first_frame: bool = False
    sources: dict[str, str] = field(default_factory=dict)
    variation_of: str | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        return str(self.options["prompt"])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> JobRequest:
        return cls(**content)


@dataclass(frozen=True)
class Job:
    """A row of the table of jobs.

    hidden: gone for clients, with its clips. dismissed: no longer in the list of jobs that have ended; its clips are kept.
    outputs: for each clip, the stored names of its files by variant. made: what is known of the clips (size, seconds,
    seeds, inference_time_s, peak_memory_mb, warnings). preview: the stored name of the last one, until it is removed. Times are
    seconds since 1970 on the database's clock.
    """

    id: str
    owner: str
    status: str
    hidden: bool
    dismissed: bool
    model: str
    priority: int
    position: float
    request: JobRequest
    created_at: float
    started_at: float | None
    completed_at: float | None
    expires_at: float | None
    worker: str | None
    attempt: int
    strikes: int
    lease_until: float | None
    cancel_requested: bool
    step: int
    steps: int
    stage: str | None
    preview: str | None
    outputs: list[dict[str, str]]
    made: dict[str, Any]
    nbytes: int
    error_code: str | None
    error_message: str | None
    remixed_from: str | None
    idempotency_key: str | None
    body_hash: str | None
    callback_url: str | None
    callback_due: float | None
    callback_tries: int

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def stage_shown(self) -> str | None:
        """What is being done; CANCELLING from when someone asked to cancel a running job until its step has ended."""
        return CANCELLING if self.status == IN_PROGRESS and self.cancel_requested else self.stage

    @property
    def preview_shown(self) -> str | None:
        """The stored name of the preview, while there is no clip to look at."""
        return None if self.has_ended else self.preview

    @property
    def progress(self) -> int:
        """0 to 100; 99 until the file is there. The clips that are published count, also where no step was made since."""
        if self.status == COMPLETED:
            return 100
        published = 99 * len(self.outputs) // len(self.request.seeds)
        sampled = 99 * self.step // self.steps if self.steps else 0
        return min(99, max(published, sampled))


@dataclass(frozen=True)
class MadeClips:
    """The clips of a job that are made so far.

    outputs: the stored names of every clip's files, those of earlier attempts first. about: what is known of the clips.
    nbytes: of the files of this attempt.
    """

    outputs: list[dict[str, str]]
    about: dict[str, Any]
    nbytes: int


def is_keyframe(option: str) -> bool:
    """Whether a request's file or address is a keyframe."""
    return option.startswith(KEYFRAME)


def job_of(row: RowMapping | Mapping[str, Any]) -> Job:
    """The job of a row of the table."""
    return Job(**{**row, "request": JobRequest.from_json(row["request"])})


def new_job_id() -> str:
    """A name that is never given twice, and that cannot be guessed."""
    return f"video_{secrets.token_hex(16)}"
