"""Jobs of a server as the command line asks for them: many at once, described in a line each, their clips in files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.options import parse_keyframe
from phonofilm.untrusted import printable

if TYPE_CHECKING:
    from phonofilm.serving.client import ServerClient

logger = logging.getLogger(__name__)

# What an option is called in a request.
FIELDS = {"steps": "num_inference_steps", "num_clips": "n", "lora": "loras"}
FILES = {"image": "input_reference", "last_image": "last_frame", "video": "video", "audio": "audio", "voice": "voice"}
OTHERS = ("model", "size", "seconds", "seed", "negative_prompt", "priority")


@dataclass(frozen=True)
class Submission:
    """What is asked of a server, by the names of `phonofilm generate`. prompts: a file with one a line."""

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

    def texts(self) -> list[str]:
        """The prompts. Raises InputError for none, or for both kinds."""
        lines = [self.prompt] if self.prompts is None else _lines_of(self.prompts)
        texts = [line for line in lines if line and line.strip()]
        if not texts or (self.prompt is not None and self.prompts is not None):
            raise InputError("give a prompt, or a file of them with --prompts")
        return texts

    def fields(self) -> dict[str, Any]:
        """The request's fields beside the prompt."""
        values = {FIELDS.get(name, name): getattr(self, name) for name in (*OTHERS, *FIELDS)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}

    def files(self) -> dict[str, Path]:
        """The request's files."""
        files = {field: getattr(self, name) for name, field in FILES.items() if getattr(self, name) is not None}
        return files | {f"keyframes[{seconds:g}]": path for seconds, path in map(parse_keyframe, self.keyframe or ())}


def _lines_of(file: Path) -> list[str]:
    """Raises InputError for a file that cannot be read as text, and for one of JSON lines, which are no prompts."""
    if file.suffix.lower() == ".jsonl":
        raise InputError(
            f"--prompts {printable(str(file))}: submit reads a prompt a line, and no JSON; give the prompts as a text file, "
            "and options that differ from clip to clip with a submit for each"
        )
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompts {file} cannot be read ({error}); give a UTF-8 text with a prompt a line") from None


def submit_all(client: ServerClient, asked: Submission) -> list[str]:
    """The ids of the jobs, one for each prompt."""
    texts, fields, files = asked.texts(), asked.fields(), asked.files()
    return [client.submit({"prompt": text, **fields}, files)["id"] for text in texts]


def wait_for_all(
    client: ServerClient, ids: Sequence[str], on_change: Callable[[str, Mapping[str, Any]], None]
) -> list[dict[str, Any]]:
    """The jobs once they have ended; `on_change` gets a job's id and every state. Raises PhonofilmError for failures."""
    try:
        jobs = [client.wait(video_id, partial(on_change, video_id)) for video_id in ids]
    except KeyboardInterrupt:
        logger.warning("%s at the server; phonofilm fetch %s gets what is made", _go_on(ids), " ".join(ids))
        raise
    failures = [f"{job['id']} {job['status']}{_reason(job)}" for job in jobs if job["status"] != "completed"]
    if failures:
        raise PhonofilmError("\n  ".join(failures))
    return jobs


def fetch_clips(client: ServerClient, jobs: Sequence[Mapping[str, Any]], output: Path) -> Iterator[Path]:
    """Write the jobs' clips: one clip to `output` if that is an mp4, else each into that folder, by its id."""
    for job in jobs:
        for index in range(job["num_outputs"]):
            alone = len(jobs) == 1 and job["num_outputs"] == 1 and output.suffix == ".mp4"
            name = f"{job['id']}{f'-{index}' if index else ''}.mp4"
            yield client.fetch(job["id"], output if alone else output / name, index)


def describe_job(job: Mapping[str, Any]) -> str:
    """A job as a line: id, status, how far, why it failed, the beginning of its prompt."""
    prompt = printable(job["prompt"] or "").replace("\n", " ")
    return f"{job['id']} {job['status']} {job['progress']} %{_reason(job)} {prompt[:60]}"


def _go_on(ids: Sequence[str]) -> str:
    return "the job goes on" if len(ids) == 1 else f"the {len(ids)} jobs go on"


def _reason(job: Mapping[str, Any]) -> str:
    return f": {printable(job['error']['message'])}" if job["error"] else ""
