"""Asking an OpenAI-compatible endpoint: one request at a time per caller, tried again where that can help. No prompts here.

The key goes into one header and nowhere else; redirects are not followed, so that it stays with the host it is for.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from phonofilm.data.request_pace import RequestPace
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.untrusted import MAX_JSON_BYTES, parse_json

logger = logging.getLogger(__name__)

WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_HOPELESS = {401: "the key is not accepted", 403: "the key may not do this", 404: "no such address or model"}
LONGEST_WAIT = 600.0  # seconds
LONGEST_BACK_OFF = 60.0
TOLD = 300  # characters of a server's message
_Answer = tuple[bytes, urllib.error.HTTPError | None]


def check_address(base_url: str) -> None:
    """Raises InputError for what is no address of a server over HTTP."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"{base_url!r} is no address of an endpoint; give for example http://localhost:8000/v1")


class EndpointError(PhonofilmError):
    """One request failed for good; others may succeed. status: the server's, where it answered with one of refusal."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnansweredError(EndpointError):
    """A request was given up without an answer: the server hangs, is overloaded or not there."""


class Hopeless(InputError):
    """No request can succeed with this address, key or model. status: the server's."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Endpoint:
    """Where a model is asked. Threads may share one.

    base_url: up to and with /v1. key: None for servers that want none. timeout: seconds without an answer. retries: how
    often a request is tried again after a timeout, a lost connection, status 429 or 5xx: after 1, 2, 4, ... seconds, give
    or take a half, or when the server says. total: seconds for one request with all its tries, however slowly an answer
    comes in; None for no limit. Raises InputError for an address that is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str | None = None,
        *,
        timeout: float = 120.0,
        retries: int = 5,
        total: float | None = None,
        pace: RequestPace | None = None,
        first_delay: float = 1.0,
    ) -> None:
        check_address(base_url)
        self.base_url, self.model, self._key = base_url.rstrip("/"), model, key
        self.timeout, self.retries, self.first_delay = timeout, retries, first_delay
        self.total, self.pace = total, pace or RequestPace()
        self._opener = urllib.request.build_opener(_NoRedirects)

    def chat(self, content: str | Sequence[dict[str, Any]]) -> str:
        """The model's answer to one user message. Raises EndpointError for none, Hopeless where any would fail."""
        message = {"role": "user", "content": content if isinstance(content, str) else list(content)}
        body = json.dumps({"model": self.model, "messages": [message]}).encode()
        answer = self._ask("chat/completions", body, "application/json")
        try:
            choice = answer["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise EndpointError(f"the answer is no chat completion: {json.dumps(answer)[:TOLD]}") from None
        if reason == "length":
            raise EndpointError("the answer was cut off at the server's limit of tokens; raise that limit")
        if not isinstance(text, str) or not text.strip():
            raise EndpointError(f"the model answered nothing (finish reason {reason!r})")
        return text.strip()

    def image(self, prompt: str, size: str) -> bytes:
        """The bytes of one picture for a prompt; size is WxH. Raises as `chat` does.

        The picture has to come in the answer itself. Servers that send nothing else know no `response_format`, and refuse it.
        """
        fields = {"model": self.model, "prompt": prompt, "n": 1, "size": size, "response_format": "b64_json"}
        try:
            answer = self._ask("images/generations", json.dumps(fields).encode(), "application/json")
        except EndpointError as error:
            if "response_format" not in str(error):
                raise
            del fields["response_format"]
            answer = self._ask("images/generations", json.dumps(fields).encode(), "application/json")
        try:
            return base64.b64decode(answer["data"][0]["b64_json"], validate=True)
        except (KeyError, IndexError, TypeError, ValueError):
            raise EndpointError(
                "the answer holds no picture (b64_json); addresses of pictures are not followed"
            ) from None

    def transcribe(self, wav: bytes, model: str) -> str:
        """The words in a wav file, "" for none; `model` is the one for speech. Raises as `chat` does."""
        answer = self.transcription(wav, model)
        if not isinstance(answer.get("text"), str):
            raise EndpointError(f"the answer is no transcription: {json.dumps(answer)[:TOLD]}")
        return str(answer["text"].strip())

    def transcription(self, wav: bytes, model: str, *, form: str = "json", prompt: str = "") -> dict[str, Any]:
        """The whole answer to a wav file, in the `form` that the server is asked for. Raises as `chat` does."""
        boundary = uuid.uuid4().hex
        fields = [("model", model), ("response_format", form), *([("prompt", prompt)] if prompt else [])]
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields
        )
        file = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="sound.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        )
        body = (head + file).encode() + wav + f"\r\n--{boundary}--\r\n".encode()
        answer = self._ask("audio/transcriptions", body, f"multipart/form-data; boundary={boundary}")
        if not isinstance(answer, dict):
            raise EndpointError(f"the answer is no transcription: {json.dumps(answer)[:TOLD]}")
        return answer

    def _ask(self, path: str, body: bytes, kind: str) -> Any:
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(f"{self.base_url}/{path}", body, headers, method="POST")
        end = None if self.total is None else time.monotonic() + self.total
        for attempt in range(self.retries + 1):
            self.pace.wait()
            try:
                answer, refusal = self._send(request) if end is None else self._send_before(end, request)
            except (OSError, HTTPException) as error:
                reason, wait, status = str(getattr(error, "reason", error)) or type(error).__name__, None, None
            else:
                if refusal is None:
                    return self._json(path, answer)
                reason, wait, status = self._refused(refusal, answer), _asked_to_wait(refusal), refusal.code
            if attempt == self.retries:
                break
            delay = wait if wait is not None else min(LONGEST_BACK_OFF, self.first_delay * 2**attempt)
            if delay > LONGEST_WAIT:
                raise UnansweredError(f"{reason}; the server asks to wait {delay:.0f} s", status)
            if end is not None and time.monotonic() + delay >= end:
                raise UnansweredError(f"{reason}; given up after {self.total:g} s", status)
            # What the server says may repeat the prompt, which logs do not hold.
            fault = reason if status is None else f"status {status}"
            logger.info("%s: %s; trying again in about %.1f s", urlsplit(self.base_url).hostname, fault, delay)
            if wait is not None:
                self.pace.hold(wait)
            else:
                self.pace.sleep(delay * random.uniform(0.5, 1.5))
        raise UnansweredError(f"{reason}; given up after {self.retries + 1} tries", status)

    def _send_before(self, end: float, request: urllib.request.Request) -> _Answer:
        """`_send`. Raises TimeoutError at the moment `end` of the monotonic clock.

        A socket's own limit starts anew with every byte. The thread that still reads then ends with its connection, and keeps
        no process alive.
        """
        done: Future[_Answer] = Future()

        def send() -> None:
            try:
                done.set_result(self._send(request))
            except (OSError, HTTPException, ValueError) as error:
                done.set_exception(error)
            finally:
                done.cancel()  # where neither is set

        threading.Thread(target=send, daemon=True).start()
        try:
            return done.result(max(0.0, end - time.monotonic()))
        except TimeoutError as error:
            raise TimeoutError(str(error) or "the answer did not come in time") from error

    def _send(self, request: urllib.request.Request) -> _Answer:
        """The answer, whole, or the beginning of a refusal, and that."""
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return response.read(MAX_JSON_BYTES + 1), None
        except urllib.error.HTTPError as error:
            with error:
                return error.read(4096), error

    def _json(self, path: str, answer: bytes) -> Any:
        try:
            return parse_json(answer)
        except ValueError as error:
            raise EndpointError(f"{self.base_url}/{path} answered what is not JSON: {error}") from error

    def _refused(self, error: urllib.error.HTTPError, body: bytes) -> str:
        """Why a request was refused, where another try may help; raises otherwise."""
        said = body.decode(errors="replace").strip()[:TOLD]
        if error.code in _HOPELESS:
            message = f"{error.url}: {_HOPELESS[error.code]} (status {error.code}, model {self.model!r}): {said}"
            raise Hopeless(message, error.code)
        message = f"status {error.code}: {said or error.reason}"
        if error.code not in WORTH_ANOTHER_TRY:
            raise EndpointError(message, error.code)
        return message


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _asked_to_wait(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks for; None where it does not say, or gives a date (then we back off as usual)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = error.headers.get(name, "")
        if text.replace(".", "", 1).isdecimal():
            return float(text) / unit
    return None
