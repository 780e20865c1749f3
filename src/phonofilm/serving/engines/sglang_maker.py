"""A worker whose clips a running SGLang server makes: it sends the job, asks how far it is, and fetches the file.

SGLang keeps its jobs in memory and its DELETE forgets a job without stopping it; so a job that it no longer knows is sent
again, and a cancelled one ends here at once while SGLang may still finish it.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from phonofilm.errors import MediaError, PhonofilmError
from phonofilm.generation.options import options_from_json
from phonofilm.generation.report import Cancelled, SamplingStarted, StageStarted, StepDone, emit
from phonofilm.media import Clip, read_clip
from phonofilm.serving.client import ServerClient, ServerError
from phonofilm.serving.engines.sglang_limits import FPS, STEPS, check_sglang_can, facts_of, frames_of, request_fields
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import Store
from phonofilm.serving.worker.clips_so_far import ClipsSoFar
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.inputs_of import input_files
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 1.0
# An engine that is being restarted loads its model for minutes: no answer, or one that says so, is waited out so long. Other
# faults of its own (5xx) are not mended by waiting: the same request is sent so often in all.
AWAY_SECONDS = 600.0
AWAY = (None, 429, 502, 503, 504)
FAULTS = 4
# The pause between two tries doubles from one poll's to so many.
LONGEST_PAUSE = 16
SENDINGS = 3


class SglangMaker:
    """Makes clips by the server in `settings.engine`. `poll`: seconds between two questions."""

    def __init__(self, settings: WorkerSettings, poll: float = POLL_SECONDS, web: PublicHttp | None = None) -> None:
        assert settings.engine is not None
        self.settings, self.engine, self.poll = settings, settings.engine, poll
        self.web = web or PublicHttp()
        self.client = ServerClient(self.engine.url, tries=1)

    @property
    def loaded(self) -> list[str]:
        return [self.settings.default_model]

    def open(self) -> dict[str, dict[str, Any]]:
        """Wait until the server answers, and see that it serves MOVA. Raises PhonofilmError when it never can."""
        models = self._patiently(self.client.models, lambda: None, most_faults=math.inf)
        card = models[0] if models else {}
        described = " ".join(str(card.get(name)) for name in ("id", "root", "pipeline_class", "pipeline_name"))
        if "mova" not in described.lower():
            raise PhonofilmError(f"the SGLang server serves {str(card.get('id'))[:200]!r}, which is not MOVA")
        return {self.settings.default_model: facts_of(self.settings.default_model)}

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        started, model = time.monotonic(), self.settings.default_model
        clips, peaks = ClipsSoFar(job, held, store), [0.0]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="phonofilm-")))
            emit(held, StageStarted("reading inputs"))
            files = input_files(job.request, self.settings, store, stack, self.web)
            named = {name: str(path) for name, path in files.items()}
            options = options_from_json({**job.request.options, **named}, "request")
            check_sglang_can(options, files, job.request.loras, model)
            if job.request.enhance_prompt:
                options = clips.with_written_prompt(options, self.settings.writing, float(frames_of(options) / FPS))
            steps = options.steps or STEPS
            for number, seed in clips.lacking():
                held.begin_clip(number, steps)
                chosen = secrets.randbelow(2**31) if seed is None else seed
                fields = request_fields(options, chosen, model)
                file = folder / f"{number}.mp4"
                ended = self._clip(fields, files["image"], steps, held, file)
                emit(held, StageStarted("writing"))
                clips.add(_opened(file), file, chosen, steps=steps)
                peaks.append(_number(ended.get("peak_memory_mb")))
        clips.about["inference_time_s"] = round(time.monotonic() - started, 3)
        if max(peaks) > 0:  # SGLang says 0 where it has measured nothing
            clips.about["peak_memory_mb"] = max(peaks)
        return clips.made()

    def close(self) -> None:
        """Nothing is held: the server is somebody else's."""

    def _clip(self, fields: dict[str, Any], image: Path, steps: int, held: HeldJob, file: Path) -> dict[str, Any]:
        """One clip into `file`; SGLang's last word on it."""
        go_on = partial(emit, held, StageStarted("waiting for SGLang"))
        emit(held, SamplingStarted(("high",) * steps))
        for _ in range(SENDINGS):
            video = self._patiently(partial(self.client.submit, fields, {"input_reference": image}), go_on)
            video_id = video["id"]
            try:
                ended = self._watched(video_id, steps, held, go_on)
            except Cancelled:
                with suppress(ServerError):
                    self.client.delete(video_id)
                raise
            if ended is None:
                logger.warning("SGLang has forgotten a clip, and gets it again")
                continue
            if ended["status"] != "completed":
                raise PhonofilmError(f"SGLang could not make the clip: {_reason(ended)}")
            self._patiently(partial(self.client.fetch, video_id, file), go_on)
            with suppress(ServerError):
                self.client.delete(video_id)
            return ended
        raise PhonofilmError(f"SGLang forgot the clip {SENDINGS} times")

    def _watched(self, video_id: str, steps: int, held: HeldJob, go_on: Callable[[], None]) -> dict[str, Any] | None:
        """The job when it has ended, its progress passed on meanwhile; None when SGLang does not know it any more."""
        while True:
            try:
                job = self._patiently(partial(self.client.video, video_id), go_on)
            except ServerError as error:
                if error.status == 404:
                    return None
                raise
            if job["status"] == "completed":
                emit(held, StepDone(steps, steps, "high"))
                return job
            if job["status"] in ("failed", "cancelled"):
                return job
            emit(held, StepDone(min(steps, int(steps * job["progress"] / 100)), steps, "high"))
            time.sleep(self.poll)

    def _patiently(self, question: Callable[[], T], go_on: Callable[[], None], most_faults: float = FAULTS) -> T:
        """The answer, asked for again while the server is away; `go_on` raises Cancelled when nobody waits any more.

        Raises ServerError for a refusal, PhonofilmError when the server stays away, or has failed `most_faults` times. None of
        them names the server: clients read it.
        """
        until, faults, pause = time.monotonic() + AWAY_SECONDS, 0, 1
        while True:
            try:
                return question()
            except ServerError as error:
                if error.status is not None and 300 <= error.status < 400:
                    raise PhonofilmError("the SGLang server sends elsewhere, which is not followed") from error
                if error.status not in AWAY and error.status is not None and 400 <= error.status < 500:
                    raise ServerError(f"the SGLang server refused it: {shown(error)}", error.status) from error
                faults += error.status not in AWAY
                if faults >= most_faults:
                    said = f"failed with status {error.status} {faults} times"
                    raise PhonofilmError(f"the SGLang server {said}: {shown(error)}") from error
                if time.monotonic() > until:
                    raise PhonofilmError("the SGLang server does not answer") from error
                logger.warning(
                    "SGLang does not answer (status %s); trying again in %g s", error.status, pause * self.poll
                )
            for _ in range(pause):
                go_on()
                time.sleep(self.poll)
            pause = min(LONGEST_PAUSE, 2 * pause)


def _opened(file: Path) -> Clip:
    """The clip that SGLang made. Raises PhonofilmError, and no MediaError: the client has not sent this file."""
    try:
        clip = read_clip(file)
    except MediaError as error:
        raise PhonofilmError(f"the clip that SGLang made cannot be read: {error}") from error
    if clip.audio is None:  # SGLang logs a failed mux, and says that the clip is completed
        raise PhonofilmError("SGLang made a clip without its sound; its log says why")
    return clip


def _number(value: object) -> float:
    """A figure of SGLang's answer; 0 for one that is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _reason(ended: dict[str, Any]) -> str:
    error = ended.get("error")
    return str(error.get("message"))[:300] if isinstance(error, dict) else str(ended.get("status"))
