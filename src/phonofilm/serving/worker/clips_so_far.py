"""The clips of a job as they come: their files in the store, what is known of them, and those that an earlier attempt made."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from phonofilm.generation.options import ClipOptions
from phonofilm.media import Clip
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.store.interface import OUTPUTS, Store
from phonofilm.serving.worker.clip_files import clip_facts, write_pictures
from phonofilm.serving.worker.enhancing import with_enhanced_prompt
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.writing.writing_endpoint import WritingEndpoint


class ClipsSoFar:
    """Begins with what earlier attempts published. The files' names hold the attempt, so that an overtaken one harms nothing."""

    def __init__(self, job: Job, held: HeldJob, store: Store) -> None:
        self.job, self.held, self.store = job, held, store
        self.outputs = list(job.outputs)
        self.about: dict[str, Any] = deepcopy({"seeds": [], **job.made})
        self.nbytes = 0

    def with_written_prompt(self, options: ClipOptions, writing: WritingEndpoint | None, seconds: float) -> ClipOptions:
        """The options with the prompt that all clips of the job are made from: written now, or by the attempt that began it.

        Raises PhonofilmError when none was written.
        """
        if not self.outputs:
            self.about["prompt"] = with_enhanced_prompt(options, writing, seconds, self.held).prompt
        return replace(options, prompt=self.about["prompt"])

    def lacking(self) -> Iterator[tuple[int, int | None]]:
        """The numbers and seeds of the clips that are not there yet."""
        yield from list(enumerate(self.job.request.seeds))[len(self.outputs) :]

    def add(self, clip: Clip, file: Path, seed: int, **facts: Any) -> None:
        """Store a clip that is written to `file`, with its pictures, and publish it."""
        names = {}
        for variant, made in {"video": file, **write_pictures(clip, file.parent)}.items():
            names[variant] = f"{OUTPUTS}/{self.job.id}/{self.job.attempt}-{len(self.outputs)}-{variant}{made.suffix}"
            self.nbytes += made.stat().st_size
            self.store.put(names[variant], made)
        self.outputs.append(names)
        self.about["seeds"].append(seed)
        self.about |= clip_facts(clip) | facts
        self.held.keep(self.made())

    def made(self) -> MadeClips:
        """What there is now."""
        return MadeClips(list(self.outputs), deepcopy(self.about), self.nbytes)
