"""A stand-in for SGLang-Diffusion's server, after what sglang 0.5.23 answers (its entrypoints/openai/video_api.py):

POST /v1/videos takes a form whose whole numbers are whole (fps, seconds, num_frames, seed), and answers a job that lives in
memory; GET shows progress up to 99; DELETE forgets the job and stops nothing; /content is 404 until the job has ended; errors
are {"detail": ...}; a mux that failed leaves a silent file of a job that is completed.
"""

from __future__ import annotations

import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.unit.http_stub import StubHandler, listening

WHOLE = ("fps", "seconds", "num_frames", "seed", "num_inference_steps")


@dataclass
class SglangStub:
    """film: what every clip is. polls: answers before a job is completed. forget: jobs that are lost like those of a server
    that was restarted. away: requests that are answered 503; broken: those that are answered 500; asked: for clips. failure: what
    a job fails with. memory: of a clip, in MB; 0 where it was not measured, as on other devices than CUDA's."""

    film: bytes
    url: str = ""
    model: str = "OpenMOSS-Team/MOVA-360p"
    polls: int = 2
    forget: int = 0
    away: int = 0
    broken: int = 0
    asked: int = 0
    memory: float = 1234.5
    failure: str | None = None
    created: list[dict[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    polled: threading.Event = field(default_factory=threading.Event)

    def create(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if not form.get("prompt"):
            return 400, {"detail": "prompt is required"}
        for name in WHOLE:
            if name in form and not form[name].isdecimal():
                return 422, {"detail": [{"loc": ["body", name], "msg": "Input should be a valid integer"}]}
        self.created.append(form)
        job_id = f"request-{len(self.created)}"
        self.jobs[job_id] = {"id": job_id, "status": "queued", "progress": 0, "model": "m", "seconds": "8", "polls": 0}
        return 200, self.jobs[job_id]

    def show(self, job_id: str) -> tuple[int, dict[str, Any]]:
        self.polled.set()
        if self.forget and self.jobs.pop(job_id, None):
            self.forget -= 1
        if (job := self.jobs.get(job_id)) is None:
            return 404, {"detail": "Video not found"}
        job["polls"] += 1
        job |= {"status": "in_progress", "progress": min(99, 100 * job["polls"] // (self.polls + 1))}
        if job["polls"] > self.polls:
            ended = {"status": "completed", "progress": 100, "peak_memory_mb": self.memory}
            job |= ended if self.failure is None else {"status": "failed", "error": {"message": self.failure}}
        return 200, job

    def content(self, job_id: str) -> tuple[int, Any]:
        job = self.jobs.get(job_id)
        if job is None or job["status"] not in ("completed", "failed"):
            return 404, {"detail": "Generation is still in-progress"}
        return 200, self.film

    def card(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self.model, "root": self.model, "pipeline_class": "MOVAPipeline"}]}


def form_of(kind: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart form; of files, their first bytes."""
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.default)
    fields = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = str(part.get_param("name", header="content-disposition"))
        fields[name] = content[:8].decode("latin-1") if part.get_filename() else content.decode()
    return fields


@contextmanager
def serving_sglang(stub: SglangStub) -> Iterator[SglangStub]:
    class Handler(StubHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stub.asked += 1
            if not self.is_away():
                self.reply(*stub.create(form_of(self.headers["Content-Type"], body)))

        def do_GET(self) -> None:
            if self.is_away():
                return
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts == ["v1", "models"]:
                self.reply(200, stub.card())
            elif parts[-1] == "content":
                self.reply(*stub.content(parts[2]))
            else:
                self.reply(*stub.show(parts[2]))

        def do_DELETE(self) -> None:
            job_id = self.path.rpartition("/")[2]
            stub.deleted.append(job_id)
            job = stub.jobs.pop(job_id, None)
            self.reply(*((200, {**job, "status": "deleted"}) if job else (404, {"detail": "Video not found"})))

        def is_away(self) -> bool:
            if stub.away:
                stub.away -= 1
                self.reply(503, {"detail": "loading"})
                return True
            if stub.broken:
                stub.broken -= 1
                self.reply(500, {"detail": "the scheduler died"})
                return True
            return False

    with listening(Handler) as address:
        stub.url = address
        yield stub
