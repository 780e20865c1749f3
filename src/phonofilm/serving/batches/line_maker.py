"""The clips of one line of a file of prompts, made in a worker on Ray as `phonofilm generate --prompts` makes them."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from phonofilm.errors import PhonofilmError
from phonofilm.generation.batch import make_lines, plan_lines
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.options import ClipOptions, options_from_json
from phonofilm.generation.prompt_file import Line
from phonofilm.generation.session import Session, open_session
from phonofilm.serving.batches.folder_maker import FolderMaker
from phonofilm.serving.jobs.job import Job, JobRequest, MadeClips
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import Store
from phonofilm.serving.worker.held_job import HeldJob

LINE_MAKER = "phonofilm.serving.batches.line_maker:LineMaker"


class LineMaker(FolderMaker):
    """Writes a line's clips where the command would have."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self._session: Session | None = None

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        """Raises PhonofilmError with why the line has no clips. What is there already, whole, is kept."""
        started, asked = time.monotonic(), job.request.options
        line = Line(asked["where"], options_from_json(asked["line"], asked["where"]))
        if self._session is None:
            self._session = open_session(open_checkpoint(asked["model"]), self.settings.hardware)
        session = self._session
        planned = plan_lines([line], session)
        if not session.is_loaded:
            largest = session.plan_options(options_from_json(asked["largest"], "the largest line"))
            session.resolve([largest, *(one.plan for one in planned if one.plan is not None)], held)
        done = make_lines(planned, session, asked["overwrite"], held)
        if done.failures:
            raise PhonofilmError(done.failures[0].removeprefix(f"{line.where}: "))
        took = round(time.monotonic() - started, 3)
        return MadeClips([], {"written": list(map(str, done.paths)), "inference_time_s": took}, 0)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def line_request(line: Line, model: str, overwrite: bool, largest: ClipOptions) -> JobRequest:
    """The job that makes a line. `largest`: the line that needs the most memory, for which a worker makes room at once."""
    asked = {"where": line.where, "line": _as_json(line.options), "model": model, "overwrite": overwrite}
    return JobRequest({"prompt": line.options.prompt or "", "largest": _as_json(largest), **asked})


def _as_json(options: ClipOptions) -> dict[str, Any]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    given = {name: value for name, value in values.items() if value is not None}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
    }
