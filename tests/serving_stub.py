"""A maker of jobs without a model, for tests of everything around it: a step is a short sleep, a clip a few bytes.

Run as `python -m tests.serving_stub worker` it is a worker process as a server starts them; as `... server` a whole server.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from phonofilm.errors import InputError
from phonofilm.generation.report import SamplingStarted, StepDone, emit
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import OUTPUTS, Store
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.process import work_until_stopped

FACTS = {
    "height": 64, "width": 64, "num_frames": 49, "fps": "24", "spatial_factor": 8, "temporal_factor": 4, "patch": 2,
    "steps": 4,
}  # fmt: skip
BODY = b"a clip, as whole as it should be"


class StubMaker:
    """Takes `seconds` for each step. The prompt "refuse" is refused, "kill" kills the process, "crash" is a bug.

    `after_step` is called with the number of each step that is done and told of, `after_clip` with that of each clip; a test
    may hold the work there.
    """

    def __init__(self, seconds: float = 0.01, after_step: Callable[[int], object] = lambda step: None) -> None:
        self.seconds = seconds
        self.after_step = after_step
        self.after_clip: Callable[[int], object] = lambda number: None
        self.made: list[str] = []

    @property
    def loaded(self) -> list[str]:
        return ["nano"]

    def open(self) -> dict[str, dict[str, Any]]:
        return {"nano": FACTS}

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        prompt, steps = job.request.prompt, job.request.options.get("steps", 4)
        if prompt == "refuse":
            raise InputError("the request cannot be met: /srv/secret/place/model.safetensors")
        if prompt == "crash":
            raise RuntimeError("a bug, with a /srv/secret/place")

        def picture() -> Any:
            """No picture is drawn: what keeps it is below."""

        def keep(preview: Any) -> str:
            name = f"{OUTPUTS}/{job.id}/{job.attempt}-preview.webp"
            with TemporaryDirectory() as folder:
                (Path(folder) / "preview").write_bytes(BODY + b"preview")
                store.put(name, Path(folder) / "preview")
            return name

        held.keep_preview = keep
        emit(held, SamplingStarted(("high",) * steps))
        for step in range(steps):
            time.sleep(self.seconds)
            if prompt == "kill":
                os._exit(9)
            emit(held, StepDone(step + 1, steps, "high", picture))
            self.after_step(step + 1)
        outputs = list(job.outputs)
        seeds = [seed or 0 for seed in job.request.seeds]
        with TemporaryDirectory() as folder:
            for number in range(len(outputs), len(seeds)):
                names = {}
                for variant, suffix in (("video", ".mp4"), ("thumbnail", ".webp"), ("spritesheet", ".jpg")):
                    file = Path(folder) / f"{number}{suffix}"
                    file.write_bytes(BODY + variant.encode())
                    names[variant] = f"{OUTPUTS}/{job.id}/{job.attempt}-{number}-{variant}{suffix}"
                    store.put(names[variant], file)
                outputs.append(names)
                held.keep(MadeClips(list(outputs), {"seeds": seeds[: number + 1]}, 3 * len(BODY) * len(outputs)))
                self.after_clip(number)
        self.made.append(job.id)
        about = {"seeds": seeds, "size": "64x64", "seconds": 2.0, "inference_time_s": 0.1, "peak_memory_mb": 1.0}
        about["seconds_per_step"] = held.seconds_per_step
        return MadeClips(outputs, about, 3 * len(BODY) * len(outputs))

    def close(self) -> None:
        """Nothing is held."""


class SlowStubMaker(StubMaker):
    """Made by name in a worker of Ray; a clip takes a second."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(0.25)


class HangsInOpen(StubMaker):
    """The first of a test hangs while it opens its model."""

    def open(self) -> dict[str, dict[str, Any]]:
        _hang_once()
        return super().open()


def maker_that_hangs_once_in_open(settings: WorkerSettings) -> StubMaker:
    """Made by name in a worker of Ray."""
    return HangsInOpen()


def maker_that_hangs_once_in_import(settings: WorkerSettings) -> StubMaker:
    """Made by name in a worker of Ray, where the first never comes to answer."""
    _hang_once()
    return StubMaker()


def _hang_once() -> None:
    mark = Path(os.environ["PHONOFILM_TEST_HANGS"])
    if not mark.exists():
        mark.touch()
        time.sleep(3600)


def worker_thread(settings: WorkerSettings, maker: StubMaker) -> tuple[Worker, threading.Thread]:
    """A worker in a thread of this process, started."""
    worker = Worker(settings, maker)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    return worker, thread


def main() -> None:
    if sys.argv[1] == "worker":
        content = json.loads(sys.stdin.readline())
        settings = WorkerSettings.from_json(content["settings"])
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        os._exit(work_until_stopped(Worker(settings, StubMaker(), content["worker"])))
    from phonofilm.serving.api.services import ApiSettings
    from phonofilm.serving.server import ServerSettings, serve_until_stopped  # a worker needs none of it

    settings = WorkerSettings.from_json(json.loads(sys.argv[2]))
    command = (sys.executable, "-m", "tests.serving_stub", "worker")
    longest = float(sys.argv[4])
    api = ApiSettings(sync_timeout=longest, stream_seconds=longest)
    server = ServerSettings(settings, port=int(sys.argv[3]), workers=2, api=api, worker_command=command)
    sys.exit(serve_until_stopped(server))


if __name__ == "__main__":
    main()
