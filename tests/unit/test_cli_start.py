"""How the command line begins and ends: interrupts that arrive, unexpected errors as one line, a quick way out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from phonofilm.cli.main import Commands, app
from phonofilm.cli.terminal import json_text
from phonofilm.process.interrupts import interrupt_arrived, interruptible
from phonofilm.process.unexpected import report_unexpected
from phonofilm.untrusted import printable


class Swallows:
    """Interrupts the process inside a destructor, where Python drops what is raised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


@pytest.fixture
def _hears_sigint() -> Iterator[None]:
    """A shell's background jobs are started with SIGINT ignored, and `interruptible` leaves it so."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("_hears_sigint")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_arrives_all_the_same() -> None:
    def work() -> None:
        Swallows()  # "Exception ignored in ... KeyboardInterrupt"
        time.sleep(20)

    with pytest.raises(KeyboardInterrupt), interruptible():
        work()


def test_an_interrupt_is_not_raised_into_its_own_clean_up() -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)
        finally:
            for _ in range(30):
                time.sleep(0.02)
            cleaned.append(True)

    cleaned: list[bool] = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert cleaned == [True]


def test_an_interrupt_is_not_raised_into_an_error_of_its_own_clean_up() -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            try:
                raise FileNotFoundError
            except FileNotFoundError:
                signal.raise_signal(signal.SIGALRM)  # what the timer does
                cleaned.append(True)

    cleaned: list[bool] = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert cleaned == [True]


@pytest.mark.usefixtures("_hears_sigint")
def test_an_interrupt_that_arrived_is_over() -> None:
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        interrupt_arrived()
        time.sleep(0.3)


def failing(error: Exception) -> typer.Typer:
    commands = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @commands.callback()
    def root(traceback: bool = typer.Option(False, envvar="PHONOFILM_TRACEBACK")) -> None:
        pass

    @commands.command()
    def fail() -> None:
        raise error

    return commands


def test_an_unexpected_error_is_one_line_and_a_file_to_report() -> None:
    done = CliRunner().invoke(failing(ValueError("a\x1b[31m thing\nsecond line")), ["fail"])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(r"error: unexpected ValueError: a\x1b[31m thing; please report it with ")
    trace = Path(re.search(r"with (\S+\.txt) \(https:", line)[1])  # type: ignore[index]
    assert "raise error" in trace.read_text()
    trace.unlink()


@pytest.mark.parametrize(("words", "env"), [(["--traceback", "fail"], {}), (["fail"], {"PHONOFILM_TRACEBACK": "1"})])
def test_the_traceback_is_printed_on_request(words: list[str], env: dict[str, str]) -> None:
    done = CliRunner().invoke(failing(ValueError("thing")), words, env=env)
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: unexpected ValueError: thing; please report it")


def test_a_full_disk_is_nothing_to_report() -> None:
    assert report_unexpected(OSError(28, "No space left on device"), shown=False) == (
        "error: OSError: [Errno 28] No space left on device"
    )


def test_control_characters_are_spelt_out() -> None:
    assert printable("a\x1b[2J\x9b1m\tb\nc\u202ed") == "a\\x1b[2J\\x9b1m\tb\nc\\u202ed"
    assert json_text({"a": "\x1b\x9b\u202eé"}) == '{\n  "a": "\\u001b\\u009b\\u202eé"\n}'


LEAVE = """
import atexit, sys, tempfile, threading
from phonofilm.process.leaving import leave
atexit.register(print, "at exit")
folder = tempfile.TemporaryDirectory(dir=sys.argv[1])
if len(sys.argv) > 2:
    threading.Thread(target=sys.stdout.write, args=("thread\\n",)).start()
sys.stdout.write("last line\\n")  # print writes a line in two pieces, and the thread's could come between them
leave(3)
"""


@pytest.mark.parametrize("arguments", [(), ("with a thread",)])
def test_what_is_registered_for_the_end_still_runs(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path), *arguments], capture_output=True, text=True)
    assert done.returncode == 3
    assert {"last line", "at exit"} <= set(done.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []


LEAN = """
import importlib.util, sys
from phonofilm.process.lean_imports import make_imports_lean
make_imports_lean()
import diffusers
from diffusers.utils import is_bitsandbytes_available, is_peft_available
print(is_bitsandbytes_available(), is_peft_available(), {"bitsandbytes", "peft"} & set(sys.modules))
print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith("phonofilm")])
print([importlib.util.find_spec(name) is not None for name in ("bitsandbytes", "peft")])
"""


def test_diffusers_does_not_see_what_we_do_not_use_through_it_and_everyone_else_does() -> None:
    done = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False False set()", "[]", "[True, True]"]


def test_the_root_has_the_option() -> None:
    assert "--traceback" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
