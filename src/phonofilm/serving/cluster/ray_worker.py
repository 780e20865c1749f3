"""A worker inside Ray: the ordinary loop in a thread of an actor's process. Ray starts that process again when it dies.

The loop begins when the actor does, not by a call, so that a restarted actor works without being asked.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from phonofilm.errors import PhonofilmError
from phonofilm.serving.logs import log_to_stderr
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import StoreError
from phonofilm.serving.worker.loop import Worker

logger = logging.getLogger(__name__)
NEW_MAKER = "phonofilm.serving.worker.makers:new_maker"


@dataclass(frozen=True)
class WorkerState:
    """worker: its name in the table. ended: it takes no more jobs and has none. fault: why it can never work, or None."""

    worker: str
    ended: bool
    fault: str | None


@dataclass(frozen=True)
class WorkerPlace:
    """Where an actor is: Ray's name of the machine, the process, and the GPUs that it sees."""

    node: str
    pid: int
    gpus: str


class RayWorker:
    """The actor. `settings` is a WorkerSettings as JSON; `maker` names what gives the maker of jobs, as "module:name"."""

    def __init__(self, settings: Mapping[str, Any], maker: str = NEW_MAKER) -> None:
        parsed = WorkerSettings.from_json(settings)
        log_to_stderr(parsed.log_json)
        # Ray's own threads, and this one, which answers `state`, work all the time.
        rays = frozenset(one.id for one in psutil.Process().threads())
        module, _, name = maker.partition(":")
        self._worker = Worker(parsed, getattr(importlib.import_module(module), name)(parsed), apart=rays)
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def state(self) -> WorkerState:
        return WorkerState(self._worker.id, not self._thread.is_alive(), self._fault)

    def place(self) -> WorkerPlace:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return WorkerPlace(node, os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", ""))

    def retire(self) -> None:
        """Finish the clip that runs, however long it takes, and take no other."""
        self._worker.stop.set()

    def ask_to_stop(self) -> None:
        """Take no other job; a clip that runs has the settings' grace, and goes back to the queue."""
        self._worker.ask_to_stop()

    def _work(self) -> None:
        try:
            self._worker.run()
        except StoreError as error:
            logger.error("%s; Ray starts this worker again", error)
            os._exit(1)
        except PhonofilmError as error:
            logger.error("%s", error)
            self._fault = str(error)
        except BaseException:
            logger.exception("the worker ended; Ray starts it again")
            os._exit(1)
