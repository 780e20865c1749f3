"""When the next request may go out: a limit per minute, pauses that a server asks for, and stopping. Shared by threads."""

from __future__ import annotations

import threading
import time

from phonofilm.errors import PhonofilmError


class Stopped(PhonofilmError):
    """The run was interrupted while this request waited."""


class RequestPace:
    """At most `per_minute` requests a minute, evenly spaced; None is no limit."""

    def __init__(self, per_minute: float | None = None) -> None:
        self._between = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def wait(self) -> None:
        """Return when a request may go out. Raises Stopped after `stop`."""
        while True:
            with self._lock:
                now = time.monotonic()
                ahead = self._next - now
                if ahead <= 0:
                    self._next = max(now, self._next) + self._between
            self.sleep(max(0.0, ahead))
            if ahead <= 0:
                return

    def hold(self, seconds: float) -> None:
        """Let nobody send for so long: one refusal for too many requests stands for all threads."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds) if seconds > 0 else self._stopped.is_set():
            raise Stopped("interrupted")

    def stop(self) -> None:
        """Wake everyone who waits, for good."""
        self._stopped.set()
