"""A hub of one repository on localhost: the three requests that a snapshot download makes. For tests without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c0ffee" + 34 * "0"


@dataclass
class FakeHub:
    """`repo` served from `folder`. `fetched` collects the files that were asked for; `broken` can be listed but not fetched."""

    repo: str
    folder: Path
    url: str = ""
    broken: str = ""
    fetched: list[str] = field(default_factory=list)

    def files(self) -> dict[str, Path]:
        return {str(p.relative_to(self.folder)): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def tree(self) -> list[dict[str, Any]]:
        entries = []
        for name, path in self.files().items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": path.stat().st_size, "oid": git_digest(path)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"oid": sha256(path), "size": path.stat().st_size, "pointerSize": 134}
            entries.append(entry)
        return entries


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_digest(path: Path) -> str:
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size + path.read_bytes()).hexdigest()


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Runs the hub while the block runs; its address is in `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/models/{hub.repo}/tree/"):
                self.reply(json.dumps(hub.tree()).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(f"/api/models/{hub.repo}"):
                info = {"id": hub.repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in hub.files()]}
                self.reply(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(f"/{hub.repo}/resolve/") and (file := path.split("/", 5)[5]) in hub.files():
                self.send_file(file, hub.files()[file], body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def send_file(self, name: str, path: Path, body: bool) -> None:
            if body and name == hub.broken:
                self.send_error(403)
                return
            if body:
                hub.fetched.append(name)
            digest = sha256(path) if name.endswith(".safetensors") else git_digest(path)
            self.reply(path.read_bytes(), {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, body)

        def reply(self, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
