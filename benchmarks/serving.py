"""How a server answers under load while clips are made: `python -m benchmarks.serving`. On loopback, bounded in count and time.

Many submissions, and clients that ask for a job's state about once a second, each on a connection of its own, all from this
process. Prints the times of status requests, what was answered, and the server's memory before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL_SECONDS = 1.0
START_SECONDS = 600.0


@dataclass
class Answers:
    """Seconds that status requests took, and how often each status was answered by kind of request."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)


class Connection:
    """A kept connection that asks one request after the other."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        return int(lines[0].split()[1]), await self.reader.readexactly(length)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


async def submit(port: int, count: int, steps: int, answers: Answers) -> None:
    """One after the other; a refusal because the queue is full is counted and not tried again."""
    connection = Connection(port)
    for number in range(count):
        body = json.dumps({"prompt": "A red ball bounces.", "num_inference_steps": steps, "seed": number}).encode()
        status, content = await connection.ask("POST", "/v1/videos", body)
        answers.statuses["submit", status] += 1
        if status == 200:
            answers.ids.append(json.loads(content)["id"])
    connection.close()


async def poll(port: int, place: float, until: float, answers: Answers) -> None:
    """Ask for the state of the newest job about once a second."""
    connection = Connection(port)
    await asyncio.sleep(place * POLL_SECONDS)
    while time.monotonic() < until:
        if answers.ids:
            started = time.perf_counter()
            status, _ = await connection.ask("GET", f"/v1/videos/{answers.ids[-1]}")
            answers.seconds.append(time.perf_counter() - started)
            answers.statuses["status", status] += 1
        await asyncio.sleep(POLL_SECONDS)
    connection.close()


async def load(port: int, submissions: int, clients: int, seconds: float, steps: int) -> Answers:
    """Everything at once, for `seconds`."""
    answers, until = Answers(), time.monotonic() + seconds
    each = -(-submissions // 10)
    submitting = [submit(port, each, steps, answers) for _ in range(10)]
    await asyncio.gather(*submitting, *(poll(port, index / clients, until, answers) for index in range(clients)))
    return answers


def wait_until_ready(port: int) -> None:
    """Until a worker has its model."""

    async def ready() -> bool:
        connection = Connection(port)
        try:
            return (await connection.ask("GET", "/health"))[0] == 200
        except OSError:
            return False
        finally:
            connection.close()

    until = time.monotonic() + START_SECONDS
    while not asyncio.run(ready()):
        if time.monotonic() > until:
            raise SystemExit("the server did not become ready")
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = ["serve", "--model", options.model, "--port", str(port), "--max-queue", "500"]
        log = (Path(folder) / "log").open("w")
        server = subprocess.Popen([sys.executable, "-m", "phonofilm", *words], cwd=folder, stderr=log)
        try:
            wait_until_ready(port)
            process = psutil.Process(server.pid)
            before, cpu = process.memory_info().rss, process.cpu_times()
            took = time.monotonic()
            answers = asyncio.run(load(port, options.submissions, options.clients, options.seconds, options.steps))
            took = time.monotonic() - took
            after, used = process.memory_info().rss, process.cpu_times()
        finally:
            server.terminate()
            server.wait(90)
            log.close()
    times = sorted(answers.seconds)
    cuts = ", ".join(
        f"p{cut} {1000 * times[min(len(times) - 1, len(times) * cut // 100)]:.0f} ms" for cut in (50, 95, 99)
    )
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} in the last minute")
    print(f"status: {len(times)} requests of {options.clients} clients in {took:.0f} s: {cuts}")
    for (kind, status), count in sorted(answers.statuses.items()):
        print(f"{kind} answered {status}: {count}")
    print(f"server: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after; {used.user - cpu.user:.1f} s of CPU time")


if __name__ == "__main__":
    main()
