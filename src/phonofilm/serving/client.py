"""Asking a server for clips, from Python's standard library alone: `pip install phonofilm` is enough to use one."""

from __future__ import annotations

import builtins
import filecmp
import http.client
import json
import logging
import math
import mimetypes
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.files import replacing
from phonofilm.serving.client_answers import checked_job
from phonofilm.untrusted import MAX_JSON_BYTES, parse_json, shown

logger = logging.getLogger(__name__)

TRIES = 6
PATIENT_TRIES = 9  # two minutes: a server that answered before is being started again
TIMEOUT = 60.0
LONGEST_WAIT = 60.0
PAGE = 100  # jobs
MOST_ANSWER = MAX_JSON_BYTES  # a page of jobs with the longest prompts has a quarter of it
UNREADABLE = 200  # the status of an answer that cannot be used: the server said that all is well


class ServerError(PhonofilmError):
    """The server refused a request, with this status, or did not answer (None), or its answer cannot be used (UNREADABLE)."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServerClient:
    """A server at `url` (http://host:port). `key`: what it was given by `phonofilm serve keys create`.

    `tries`: how often a request is sent while the server is away or full; more often where a job is waited for. `timeout`:
    seconds that an answer, or a piece of it, may take.
    """

    url: str
    key: str | None = None
    tries: int = TRIES
    timeout: float = TIMEOUT

    def submit(
        self, fields: Mapping[str, Any], files: Mapping[str, Path], route: str = "/v1/videos", key: str | None = None
    ) -> dict[str, Any]:
        """Ask for a clip. Sent again after a lost answer, it makes no second job. Waits while the queue is full.

        `key`: a request that was sent with it before, whenever that was, makes no second job either.
        """
        for name, path in files.items():
            if not path.is_file():
                raise InputError(f"{name}: no file at {path}")
        boundary = uuid.uuid4().hex
        body = _form(fields, files, boundary)
        kind = f"multipart/form-data; boundary={boundary}"
        headers = {"Content-Type": kind, "Idempotency-Key": key or uuid.uuid4().hex}
        return _job(self._json("POST", route, body, headers))

    def video(self, video_id: str) -> dict[str, Any]:
        """A job as it is now."""
        return _job(self._json("GET", f"/v1/videos/{_quoted(video_id)}"), video_id)

    def list(self, limit: int | None = None, status: str | None = None) -> Iterator[dict[str, Any]]:
        """The newest jobs, at most `limit` of them, or all; asked for page by page, as they are taken."""
        query, left = {} if status is None else {"status": status}, math.inf if limit is None else limit
        while left > 0:
            size = min(PAGE, left)
            found = self._json("GET", f"/v1/videos?{urllib.parse.urlencode({**query, 'limit': size})}")
            jobs = [_job(one) for one in _listed(found)]
            yield from jobs
            left -= len(jobs)
            if not found.get("has_more") or not jobs:
                return
            if query.get("after") == jobs[-1]["id"]:
                raise _unreadable("its next page is the one before")
            query["after"] = jobs[-1]["id"]

    def cancel(self, video_id: str) -> dict[str, Any]:
        """Stop a job."""
        return _job(self._json("POST", f"/v1/videos/{_quoted(video_id)}/cancel"), video_id)

    def delete(self, video_id: str) -> None:
        """Stop a job and remove its clip."""
        self._json("DELETE", f"/v1/videos/{_quoted(video_id)}")

    def models(self) -> builtins.list[dict[str, Any]]:
        """The models that are served."""
        return _listed(self._json("GET", "/v1/models"))

    def wait(self, video_id: str, on_change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The job once it has ended; `on_change` is called with every state that was seen."""
        tries = self.tries
        while True:
            with self._ask("GET", f"/v1/videos/{_quoted(video_id)}", tries=tries) as response:
                after = response.headers.get("openai-poll-after-ms", "1000")
                job = _job(_object(response), video_id)
            tries = max(tries, PATIENT_TRIES)
            on_change(job)
            if job["status"] in ("completed", "failed", "cancelled"):
                return job
            time.sleep(min(LONGEST_WAIT, (int(after) if after.isdecimal() else 1000) / 1000))

    def fetch(self, video_id: str, target: Path, index: int = 0) -> Path:
        """Write a job's clip to a file, whole or not at all. Raises InputError for another file that has the name already."""
        with (
            self._ask("GET", f"/v1/videos/{_quoted(video_id)}/content?index={index}", tries=PATIENT_TRIES) as response,
            replacing(target) as temporary,
        ):
            expected = int(response.headers.get("Content-Length", -1))
            taken = 0
            with temporary.open("wb") as stream:
                while piece := _piece(response, 2**20, "the clip"):
                    stream.write(piece)
                    taken += len(piece)
            if expected not in (-1, taken):
                reason = f"the clip was cut off after {taken:,} of {expected:,} bytes; fetch it again"
                raise ServerError(reason, UNREADABLE)
            with temporary.open("rb") as stream:
                if stream.read(8)[4:] != b"ftyp":
                    raise ServerError(f"what the server sent for {video_id} is no mp4", UNREADABLE)
            if target.exists() and not filecmp.cmp(temporary, target, shallow=False):
                raise InputError(
                    f"{shown(target)} is there already and is another clip; choose another name for {video_id}"
                )
        return target

    def _json(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        with self._ask(method, path, body, headers) as response:
            return _object(response)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int | None = None,
    ) -> http.client.HTTPResponse:
        """The answer, asked for `tries` times while the server is away or full. Raises ServerError for anything but success."""
        every = {**(headers or {}), **({} if self.key is None else {"Authorization": f"Bearer {self.key}"})}
        reason, status = "", None
        tries = self.tries if tries is None else tries
        for attempt in range(tries):
            request = urllib.request.Request(self.url.rstrip("/") + path, body, every, method=method)
            pause = min(LONGEST_WAIT, 0.5 * 2**attempt)
            try:
                response = _OPENER.open(request, timeout=self.timeout)
                assert isinstance(response, http.client.HTTPResponse)
                return response
            except urllib.error.HTTPError as error:
                reason, status = self._refusal(error), error.code
                if error.code not in (429, 502, 503):
                    raise ServerError(reason, status) from None
                asked = error.headers.get("Retry-After", "")
                pause = min(LONGEST_WAIT, float(asked)) if asked.isdecimal() else pause
            except (OSError, http.client.HTTPException) as error:
                status = None
                reason = f"{self.url} does not answer ({getattr(error, 'reason', error)})"
            if attempt + 1 < tries:
                logger.warning("%s; trying again in %.3g s (%d of %d)", shown(reason), pause, attempt + 2, tries)
                time.sleep(pause)
        raise ServerError(reason, status)

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        if 300 <= error.code < 400:
            target = shown(error.headers.get("Location") or "")
            return f"the server redirects to {target}; name that as the server if it is the right one"
        if error.code == 401:
            said = "wants a key, and was given none" if self.key is None else "does not know the key that it was given"
            return f"the server {said}: --key, or PHONOFILM_API_KEY (phonofilm serve keys create makes one)"
        return _reason(error)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is followed by nobody: the key would go wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def client_from(server: str | None, key: str | None) -> ServerClient:
    """A client of the server that was named, else of the one in PHONOFILM_SERVER. The key: PHONOFILM_API_KEY."""
    url = server or os.environ.get("PHONOFILM_SERVER", "http://127.0.0.1:8000")
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{shown(url)!r} is no server; use for example http://127.0.0.1:8000")
    key = key or os.environ.get("PHONOFILM_API_KEY") or None
    if key is not None and re.fullmatch("[!-~]+", key) is None:
        raise InputError("the key holds a space, or another sign that no key has; give it as it was shown")
    return ServerClient(url, key)


def _form(fields: Mapping[str, Any], files: Mapping[str, Path], boundary: str) -> bytes:
    parts = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            key = f"{name}[]" if isinstance(value, list) else name
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{one}\r\n'.encode())
    for name, path in files.items():
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        head = f'Content-Disposition: form-data; name="{name}"; filename="upload"\r\nContent-Type: {kind}'
        parts.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + path.read_bytes() + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _reason(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            content = json.loads(error.read(65_536))
            return str(content["error"]["message"] if "error" in content else content["detail"])
        except (ValueError, KeyError, TypeError):
            return f"the server answered with status {error.code}"


def _piece(response: http.client.HTTPResponse, most: int, what: str) -> bytes:
    """The next bytes of an answer. Raises ServerError when the server breaks off: no file of this machine is to blame."""
    try:
        return response.read(most)
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"the server broke off in the middle of {what} ({type(error).__name__})") from error


def _object(response: http.client.HTTPResponse) -> dict[str, Any]:
    content = _piece(response, MOST_ANSWER + 1, "its answer")
    if len(content) > MOST_ANSWER:
        raise ServerError(f"the server's answer is longer than {MOST_ANSWER:,} bytes", UNREADABLE)
    try:
        value = parse_json(content)
    except ValueError as error:
        raise _unreadable(str(error)) from None
    if not isinstance(value, dict):
        raise _unreadable("it is no object")
    return value


def _job(answer: Mapping[str, Any], asked: str | None = None) -> dict[str, Any]:
    try:
        return checked_job(answer, asked)
    except ValueError as error:
        raise _unreadable(str(error)) from None


def _listed(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = answer.get("data")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _unreadable("it holds no list of objects")
    return found


def _unreadable(reason: str) -> ServerError:
    return ServerError(f"the server's answer cannot be read: {reason}", UNREADABLE)


def _quoted(video_id: str) -> str:
    return urllib.parse.quote(video_id, safe="")
