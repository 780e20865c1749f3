"""An OpenAI-compatible endpoint on this machine, which answers from what it is sent and can be told to fail."""

from __future__ import annotations

import base64
import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tests.unit.http_stub import StubHandler, listening


@dataclass
class FakeEndpoint:
    """answers: what each pass says, or what is called with the request to say it. failures: (status, headers) given before
    anything is answered, one per request. raw: bytes that are sent instead of any answer. strict: it knows no response_format."""

    url: str = ""
    answers: dict[str, Any] = field(
        default_factory=lambda: {"visual": "A lamp.", "speech": 'A man says "hm".', "sound": "NONE", "merge": None}
    )
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    raw: bytes | None = None
    strict: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def passes(self) -> list[str]:
        return sorted(request["pass"] for request in self.requests)

    def answer(self, request: dict[str, Any]) -> str:
        told = self.answers[request["pass"]]
        if callable(told):
            told = told(request)
        if told is None:  # a model that merges as it is asked to
            return '[VISUAL]: A lamp and a man. [SPEECH]: The man says "hm".\n'
        return told


def understood(headers: Any, path: str, body: bytes) -> dict[str, Any]:
    """The request's pass, pictures as arrays, sound as (samples, rate), and its key."""
    about: dict[str, Any] = {"path": path, "key": headers.get("Authorization"), "pictures": [], "sound": None}
    if path.endswith("/audio/transcriptions"):
        assert headers["Content-Type"].startswith("multipart/form-data; boundary=")
        assert b'name="model"\r\n\r\nwhisper-1\r\n' in body
        start = body.index(b"RIFF")
        return {**about, "pass": "transcript", "sound": heard(body[start : body.rindex(b"\r\n--")])}
    if path.endswith("/images/generations"):
        return {**about, "pass": "image", **json.loads(body)}
    assert path.endswith("/chat/completions")
    told = json.loads(body)
    content = told["messages"][0]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] == "image_url":
            data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
            about["pictures"].append(np.asarray(Image.open(io.BytesIO(data))))
        elif part["type"] == "input_audio":
            assert part["input_audio"]["format"] == "wav"
            about["sound"] = heard(base64.b64decode(part["input_audio"]["data"]))
    texts = [part["text"] for part in parts if part["type"] == "text"]
    kind = "visual" if about["pictures"] else "merge" if about["sound"] is None else None
    kind = kind or ("speech" if "spoken" in texts[0] else "sound")
    return {**about, "pass": kind, "texts": texts, "model": told["model"]}


def heard(data: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(data)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


@contextmanager
def serving(fake: FakeEndpoint) -> Iterator[FakeEndpoint]:
    class Handler(StubHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with fake.lock:
                failure = fake.failures.pop(0) if fake.failures else None
                if failure is None:
                    request = understood(self.headers, self.path, body)
                    fake.requests.append(request)
            if failure is not None:
                self.reply(failure[0], {"error": {"message": "not now"}}, failure[1])
                return
            text = fake.answer(request)
            if fake.raw is not None:
                self.reply(200, fake.raw)
            elif request["pass"] == "image":
                if "response_format" in request and fake.strict:
                    self.reply(400, {"error": {"message": "Unknown parameter: 'response_format'."}})
                    return
                self.reply(200, {"data": [text]})
            elif request["pass"] == "transcript":
                self.reply(200, {"text": text})
            else:
                choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                self.reply(200, {"choices": [choice]})

    with listening(Handler) as address:
        fake.url = f"{address}/v1"
        yield fake
