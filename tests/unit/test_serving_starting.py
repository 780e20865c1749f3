"""Workers that start: what counts as a sign of life while a model is loaded, and when there has been none for too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.serving_stub import StubMaker, worker_thread
from tests.unit.serving_helpers import ask, services_in

from phonofilm.serving.api.services import Services
from phonofilm.serving.database.engines import Database
from phonofilm.serving.jobs.roster import WorkerReport, last_report
from phonofilm.serving.worker.loop import LEAST_WORK, Worker, seconds_worked
from phonofilm.serving.worker.supervisor import WorkerProcesses


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path)


def test_a_worker_without_any_sign_of_life_is_replaced_after_the_time_that_starting_may_take(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phonofilm.serving.worker.silence.LISTEN_SECONDS", 0.1)
    settings = replace(services.worker, start=0.5, grace=0.0)
    workers = WorkerProcesses(settings, services.database, 1, lambda: None, ("sh", "-c", "read line; exec sleep 1000"))
    workers.start()
    try:
        assert workers.are_coming
        first = wait_until(lambda: workers._places[0].process)
        assert workers.are_coming, "it has not reported yet"
        os.kill(first.pid, signal.SIGSTOP)
        wait_until(lambda: workers._places[0].process not in (None, first))
        assert first.poll() == -signal.SIGKILL
    finally:
        for place in workers._places:
            if place.process is not None:
                place.process.kill()
        workers.stop()
    assert not workers.are_coming


def wait_until(there: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (found := there()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def test_a_worker_that_loads_says_so_only_while_the_loading_goes_on(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked, go_on, reports = [1.0], threading.Event(), []
    monkeypatch.setattr("phonofilm.serving.worker.loop.REPORT_SECONDS", 0.01)
    monkeypatch.setattr("phonofilm.serving.worker.loop.seconds_worked", lambda apart: worked[0])

    class Loading(StubMaker):
        def open(self) -> dict[str, dict[str, Any]]:
            go_on.wait(60)
            return super().open()

    worker = Worker(services.worker, Loading())
    monkeypatch.setattr(worker, "_report", lambda: reports.append(worker._state))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: reports)
        time.sleep(0.2)
        assert reports == ["starting"]
        worked[0] = 2.0
        wait_until(lambda: len(reports) == 2)
        go_on.set()
        wait_until(lambda: reports.count("ready") > 2)
    finally:
        go_on.set()
        worker.ask_to_stop()
        thread.join()


def test_a_worker_says_at_once_that_it_works_and_that_it_does_no_more(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phonofilm.serving.worker.loop.REPORT_SECONDS", 3600.0)
    go_on = threading.Event()
    worker, thread = worker_thread(services.worker, StubMaker(after_step=lambda step: go_on.wait(60)))

    def says(state: str) -> bool:
        found = last_report(services.database, worker.id)
        return found is not None and found[1] == state

    try:
        wait_until(lambda: says("ready"))
        ask(services.database)
        wait_until(lambda: says("busy"))
        go_on.set()
        wait_until(lambda: says("ready"))
    finally:
        go_on.set()
        worker.ask_to_stop()
        thread.join()


def test_a_late_report_of_starting_does_not_follow_the_one_of_being_ready(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    began = threading.Event()

    class Loading(StubMaker):
        def open(self) -> dict[str, dict[str, Any]]:
            began.wait(60)
            return super().open()

    def write(database: Database, report: WorkerReport) -> None:
        if report.state == "starting":
            began.set()
            time.sleep(0.3)
        written.append(report.state)

    monkeypatch.setattr("phonofilm.serving.worker.loop.report_worker", write)
    worker, thread = worker_thread(services.worker, Loading())
    try:
        wait_until(lambda: len(written) == 2)
        assert written == ["starting", "ready"]
    finally:
        worker.ask_to_stop()
        thread.join()


def test_work_of_other_threads_and_processes_is_seen_and_waiting_is_not() -> None:
    code = "import sys\nwhile sys.stdin.readline(): sum(range(10**6)); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        before = seconds_worked()
        for _ in range(20):
            child.stdin.write("\n")
            child.stdin.flush()
            child.stdout.readline()
        assert seconds_worked() - before > LEAST_WORK
        sum(range(10**7))
        child.stdin.close()
    thread = threading.Thread(target=lambda: sum(range(10**7)))
    before = seconds_worked()
    thread.start()
    thread.join()
    assert seconds_worked() - before > LEAST_WORK


def test_threads_that_are_set_apart_are_no_sign_of_life() -> None:
    go_on = threading.Event()

    def busy() -> None:
        while not go_on.is_set():
            sum(range(10**5))

    thread = threading.Thread(target=busy)
    thread.start()
    assert thread.native_id is not None
    try:
        # The test runner has threads too, whose time is counted in hundredths of a second.
        apart = frozenset({thread.native_id, *(one.id for one in psutil.Process().threads())})
        before, counted = seconds_worked(apart), seconds_worked()
        wait_until(lambda: seconds_worked() - counted > 0.5)
        assert abs(seconds_worked(apart) - before) <= LEAST_WORK
    finally:
        go_on.set()
        thread.join()
