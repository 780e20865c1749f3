"""A worker as a process: settings come as one line of JSON on standard input, and when that closes, its parent is dead.

Run as `python -m phonofilm.serving.worker.process`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from functools import partial
from types import FrameType

from phonofilm.errors import PhonofilmError
from phonofilm.process.lean_imports import make_imports_lean
from phonofilm.serving.database.migrate import START_PATIENCE, open_migrated
from phonofilm.serving.jobs.claims import give_back
from phonofilm.serving.logs import log_to_stderr
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import StoreError
from phonofilm.serving.worker.ids import CANNOT_START
from phonofilm.serving.worker.loop import Worker
from phonofilm.serving.worker.makers import new_maker

logger = logging.getLogger(__name__)

# A worker beside its server leaves the processor to it: an answer takes a millisecond, a clip minutes.
NICENESS = 10


def work_until_stopped(worker: Worker) -> int:
    """Run the worker in this process until SIGTERM or SIGINT; returns the exit code.

    On a second signal the job goes back into the queue at once, and the process ends; on the first one while no job can be lost:
    a model that is being loaded. On one more it ends without a word to the table, which may be away.
    """
    hurried = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if hurried.is_set():
            os._exit(1)
        if worker.stop.is_set():
            hurried.set()
            # Not here: what the signal interrupts may hold the database.
            threading.Thread(target=_give_back_and_end, args=(worker,), name="give back", daemon=True).start()
            return
        if worker.is_starting:
            hurried.set()
            threading.Thread(target=_leave_and_end, args=(worker, 0), name="leave", daemon=True).start()
            return
        worker.ask_to_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        worker.run()
    except StoreError as error:
        # It may be back when this worker is started again: its server could open it.
        logger.error("%s", error)
        return 1
    except PhonofilmError as error:
        logger.error("%s", error)
        return CANNOT_START
    return 0


def _give_back_and_end(worker: Worker) -> None:
    try:
        give_back(worker.database, worker.id)
        logger.info("worker %s: its job is in the queue again", worker.id)
    finally:
        _leave_and_end(worker, 1)


def _leave_and_end(worker: Worker, code: int) -> None:
    try:
        worker.leave()
    finally:
        sys.stderr.flush()
        os._exit(code)


def work_alone(settings: WorkerSettings) -> int:
    """`phonofilm worker`: work in this process until it is asked to stop. Returns the exit code."""
    log_to_stderr(settings.log_json)
    open_migrated(settings.database_url, START_PATIENCE).close()
    return work_until_stopped(Worker(settings, new_maker(settings)))


def main() -> None:
    make_imports_lean()
    os.nice(NICENESS)
    line = sys.stdin.readline()
    content = json.loads(line)
    settings = WorkerSettings.from_json(content["settings"])
    log_to_stderr(settings.log_json)
    worker = Worker(settings, new_maker(settings), content["worker"])
    worker.end_process = partial(_leave_and_end, worker, 1)
    threading.Thread(target=_watch_parent, args=(worker,), name="parent", daemon=True).start()
    code = work_until_stopped(worker)
    sys.stderr.flush()
    os._exit(code)


def _watch_parent(worker: Worker) -> None:
    sys.stdin.read()
    worker.ask_to_stop()


if __name__ == "__main__":
    main()
