"""The entry point: quick help, the version, and what errors become."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from phonofilm import __version__
from phonofilm.cli.main import app

HEAVY = ("torch", "diffusers", "transformers", "av", "matplotlib", "numpy", "PIL")
RUN = """
import sys
from phonofilm.cli.main import app
try:
    app()
except SystemExit as end:
    assert not end.code
"""


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["inspect", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = RUN + f"print([m for m in {HEAVY!r} if m in sys.modules], len(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    heavy, _, count = done.stderr.strip().rpartition(" ")
    assert heavy == "[]"
    # Half a second of a usual processor, which modules count alike on every one.
    assert int(count) < 550


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"phonofilm {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["generate", ""], 2, "error: the prompt is empty"),
        (["generate", "x", "--steps", "many"], 2, "Invalid value"),
        (["generate", "x", "--no-such-option"], 2, "No such option"),
        (["generate", "x", "-m", "./nowhere"], 2, "error: "),
        (["generate", "x", "-m", "nowhere"], 2, "'nowhere' is no model"),
        (["inspect", "nothing.mp4"], 2, "error: no file at nothing.mp4"),
        (["play"], 2, "No such command"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_line(
    arguments: list[str], code: int, complaint: str, tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_ends_with_code_1(tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    done = CliRunner().invoke(app, ["generate", "x", "-m", "."])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: . has no model_index.json")
