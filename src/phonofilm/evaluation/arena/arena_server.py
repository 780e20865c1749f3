"""A local page for the arena: answers on this machine alone, and never says which model is on which side before the vote."""

from __future__ import annotations

import json
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.evaluation.arena.arena import Arena
from phonofilm.evaluation.arena.votes import QUESTIONS
from phonofilm.evaluation.page_parts import TYPES, document
from phonofilm.untrusted import parse_json

HOST = "127.0.0.1"
LONGEST_VOTE = 4096  # bytes


class ArenaServer(ThreadingHTTPServer):
    """Serves one arena on a port of this machine; 0 takes a free one."""

    daemon_threads = True

    def __init__(self, arena: Arena, port: int = 0) -> None:
        """Raises InputError for a port that is taken, and where votes cannot be kept."""
        arena.require_writable()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise InputError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port, or 0"
            ) from error
        self.arena = arena

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up, which it does at every seek, is no error to print."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """GET or HEAD /, /pair, /standings/QUESTION, /media/KEY/SIDE; POST /vote/KEY."""

    server: ArenaServer

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_HEAD(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the address and no more."""

    def _answered(self, answer: Any) -> None:
        """Only for pages of this very address: another site in the same browser must neither read nor vote."""
        own = f"{HOST}:{self.server.server_port}"
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in (own, f"localhost:{self.server.server_port}"):
            self._send(HTTPStatus.FORBIDDEN, {"error": "this server answers its own address only"})
        elif origin is not None and origin != f"http://{self.headers.get('Host')}":
            self._send(HTTPStatus.FORBIDDEN, {"error": "another page may not vote"})
        else:
            try:
                answer(self.path.partition("?")[0].strip("/").split("/"))
            except InputError as error:
                self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            except (FileNotFoundError, IsADirectoryError, PermissionError):
                self._send(HTTPStatus.NOT_FOUND, {"error": "this clip was removed meanwhile; skip the pair"})

    def _get(self, path: list[str]) -> None:
        arena = self.server.arena
        match path:
            case [""]:
                self._send_bytes(arena_page().encode(), "text/html; charset=utf-8")
            case ["pair"]:
                pair, (done, total) = arena.next_pair(), arena.progress
                self._send(HTTPStatus.OK, {"key": pair.key, "clip": pair.clip, "done": done, "total": total})
            case ["standings", question] if question in QUESTIONS:
                self._send(HTTPStatus.OK, arena.standings(question))
            case ["media", key, side]:
                self._send_file(arena.file_of(key, side))
            case _:
                self._send(HTTPStatus.NOT_FOUND, {"error": f"there is nothing at {self.path}"})

    def _post(self, path: list[str]) -> None:
        given = self.headers.get("Content-Length") or ""
        length = int(given) if re.fullmatch(r"[0-9]{1,9}", given) else 0
        if len(path) != 2 or path[0] != "vote" or not 0 < length <= LONGEST_VOTE:
            raise InputError("a vote is a small JSON object, sent to /vote/KEY")
        try:
            answers = parse_json(self.rfile.read(length))
        except ValueError as error:
            raise InputError(f"the vote is no JSON: {error}") from error
        if not isinstance(answers, dict):
            raise InputError("a vote is an object of questions and answers")
        pair = self.server.arena.vote(path[1], answers)
        self._send(HTTPStatus.OK, {"left": pair.left, "right": pair.right})

    def _send(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send_bytes(json.dumps(value).encode(), "application/json", status)

    def _send_bytes(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, **more: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        for name, value in headers.items():
            self.send_header(name, value)
        self._finish(content)

    def _send_file(self, path: Path) -> None:
        """The file, or the part of it that a player seeks to. Its name and date would give the model away."""
        size, kind = path.stat().st_size, f"video/{TYPES.get(path.suffix.lower(), 'mp4')}"
        asked = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", self.headers.get("Range") or "")
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]) if asked and asked[2] else size - 1, size - 1)
        if first > last:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"error": "the clip is shorter"})
            return
        with path.open("rb") as stream:
            stream.seek(first)
            content = stream.read(last - first + 1)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self._finish(content)

    def _finish(self, content: bytes) -> None:
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def arena_page() -> str:
    """The page itself: two players in step and four questions."""
    questions = "".join(
        f'<div class="question" role="group" aria-label="{name}" data-question="{name}"><b>{name}</b>'
        + "".join(
            f'<button type="button" data-answer="{answer}" aria-pressed="false">{label}</button>'
            for answer, label in (("left", "left is better"), ("tie", "no difference"), ("right", "right is better"))
        )
        + "</div>"
        for name in QUESTIONS
    )
    body = (
        '<h1>Which is better?</h1><p class="soft">Two clips of one prompt, by models that are not named. Space plays both, '
        "m changes whose sound is heard; 1, 2, 3 answer the marked question, ↑ ↓ change it, Enter sends.</p>"
        '<p id="progress" class="soft" aria-live="polite"></p><div class="players">'
        + "".join(
            f'<figure class="player"><video id="{side}" playsinline preload="auto"></video><figcaption>'
            f'<span>{side}</span><button type="button" class="solo" data-side="{side}">hear</button></figcaption></figure>'
            for side in ("left", "right")
        )
        + '</div><div class="transport"><button id="play" type="button">Play</button><input id="seek" type="range" min="0" '
        'max="1000" value="0" aria-label="position"></div>'
        + questions
        + '<div class="transport"><button id="send" type="button" disabled>Send and go on</button><button id="skip" '
        'type="button">Skip</button></div><p id="said" role="status"></p><h2>Standings</h2>'
        + '<div id="standings" class="scroll" tabindex="0"></div>'
    )
    return document("Phonofilm arena", body, "arena.js")
