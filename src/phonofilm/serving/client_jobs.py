"""Jobs of a server as the command line asks for them: many at once, described in a line each, their clips in files."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.prompt_file import Line, read_lines
from phonofilm.serving.client_clips import check_targets
from phonofilm.serving.client_requests import ClipRequest, in_options, request_of
from phonofilm.untrusted import printable

if TYPE_CHECKING:
    from phonofilm.serving.client import ServerClient

logger = logging.getLogger(__name__)

_KEY = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True)
class Submission:
    """What is asked of a server, by the names of `phonofilm generate`.

    prompts: a file with a clip a line, text or JSON. idempotency_key: what was submitted with it before is not made again.
    """

    prompt: str | None = None
    image: Path | None = None
    last_image: Path | None = None
    keyframe: tuple[str, ...] | None = None
    video: Path | None = None
    audio: Path | None = None
    voice: Path | None = None
    model: str | None = None
    size: str | None = None
    seconds: float | None = None
    steps: int | None = None
    seed: int | None = None
    num_clips: int | None = None
    lora: tuple[str, ...] | None = None
    negative_prompt: str | None = None
    priority: int | None = None
    prompts: Path | None = None
    idempotency_key: str | None = None

    def lines(self, folder: Path | None) -> list[Line]:
        """The clips that are asked for; those of a file are to be written into `folder`. Raises InputError."""
        if (self.prompt is None) == (self.prompts is None):
            both = "" if self.prompt is None else ", not both"
            raise InputError(f"give a prompt, or a file of them with --prompts{both}")
        names = {field.name for field in fields(ClipOptions)} & {field.name for field in fields(self)}
        common = ClipOptions(**{name: getattr(self, name) for name in names})
        return [Line("", common)] if self.prompts is None else read_lines(self.prompts, replace(common, output=folder))

    def requests(self, lines: Sequence[Line]) -> list[ClipRequest]:
        """What is sent for each line. Raises InputError for one that a server cannot obey, before anything is sent."""
        if self.idempotency_key is not None and _KEY.fullmatch(self.idempotency_key) is None:
            raise InputError("--idempotency-key is 1 to 200 letters, digits and signs of ASCII, without spaces")
        beside = {"model": self.model, "priority": self.priority}
        return [request_of(line, {name: v for name, v in beside.items() if v is not None}) for line in lines]

    def key_of(self, line: Line) -> str | None:
        """The line's own key, which is the same whenever the file is submitted."""
        return self.idempotency_key and f"{self.idempotency_key}{f':{line.number}' if line.number else ''}"


def connect(server: str | None, key: str | None) -> ServerClient:
    """A client of the server that was named, as `client_from` has it."""
    from phonofilm.serving.client import client_from  # HTTP, which a command line that is only read does without

    return client_from(server, key)


def submit_all(
    client: ServerClient, asked: Submission, output: Path | None = None, say: Callable[[str], None] = logger.warning
) -> list[str]:
    """The ids of the jobs, one for each prompt, whose clips will be fetched to `output`, if that is given.

    `say` gets what the server warns of, where nobody waits for the jobs and reads it then.
    Raises InputError before anything is sent, and ServerError, which names the jobs that are in the queue by then.
    """
    from phonofilm.serving.client import ServerError  # HTTP, which a command line that is only read does without

    lines = asked.lines(output)
    requests = asked.requests(lines)
    if output is not None:
        check_targets(lines, output, may_be_there=asked.idempotency_key is not None)
    jobs: list[dict[str, Any]] = []
    for line, request in zip(lines, requests, strict=True):
        try:
            jobs.append(client.submit(request.fields, request.files, request.path, asked.key_of(line)))
        except ServerError as error:
            where = f"{line.where}: " if line.where else ""
            before = f"; submitted before it: {' '.join(job['id'] for job in jobs)}" if jobs else ""
            raise ServerError(f"{where}{in_options(str(error), line)}{before}", error.status) from None
    if output is None:
        _say_warnings(jobs, say)
    return [job["id"] for job in jobs]


def wait_for_all(
    client: ServerClient, ids: Sequence[str], on_change: Callable[[str, dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """The jobs once they have ended; `on_change` gets a job's id and every state."""
    try:
        return [client.wait(video_id, partial(on_change, video_id)) for video_id in ids]
    except KeyboardInterrupt:
        logger.warning("%s at the server; phonofilm fetch %s gets what is made", _go_on(ids), " ".join(ids))
        raise


def completed(jobs: list[dict[str, Any]], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """These jobs; `say` gets what the server warns of. Raises PhonofilmError for those that were not completed."""
    _say_warnings(jobs, say)
    failures = [f"{job['id']} {job['status']}{_reason(job)}" for job in jobs if job["status"] != "completed"]
    if failures:
        raise PhonofilmError("\n  ".join(failures))
    return jobs


def stage_of(job: Mapping[str, Any]) -> str:
    """What is being done for a job, or its state."""
    return str(job["stage"] or job["status"])


def describe_job(job: Mapping[str, Any]) -> str:
    """A job as a line: id, status, how far, why it failed, the beginning of its prompt."""
    prompt = printable(job["prompt"] or "").replace("\n", " ")
    state = f"{job['stage'] if job['stage'] == 'cancelling' else job['status']} {job['progress']} %"
    if job["status"] == "completed" and job["expires_at"] is not None and job["expires_at"] < time.time():
        state = "expired"
    apart = " · " if job["error"] else " "
    return f"{job['id']} {state}{_reason(job)}{apart if prompt else ''}{prompt[:60]}"


def describe_jobs(jobs: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> Iterator[str]:
    """A line for each job as it comes; at the end `say` gets what the server warns of."""
    described = []
    for job in jobs:
        yield describe_job(job)
        described.append(job)
    _say_warnings(described, say)


def _go_on(ids: Sequence[str]) -> str:
    return "the job goes on" if len(ids) == 1 else f"the {len(ids)} jobs go on"


def _say_warnings(jobs: Sequence[Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Say what a server warns of, each once, and of which jobs where there are several."""
    found: dict[str, dict[str, None]] = {}
    for job in jobs:
        for text in job["warnings"]:
            found.setdefault(printable(text).replace("\n", " "), {})[job["id"]] = None
    for text, ids in found.items():
        say(f"{text} ({', '.join(ids)})" if len(jobs) > 1 else text)


def _reason(job: Mapping[str, Any]) -> str:
    return f": {printable(job['error']['message'])}" if job["error"] else ""
