"""The tutorial's commands as they stand, on an untrained checkpoint, with few clips and updates."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.nano_fixture import tiny_nano_pipeline
from typer.testing import CliRunner

from phonofilm.cli.main import app

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALLER = {
    "world": ["-n", "2", "--frames", "9"],
    "cache": ["--model", "model", "--bucket", "32x32x5"],
    "train": ["model=model", "device=cpu", "batch_size=2", "max_steps=2", "samples.steps=1"],
    "generate": ["--model", "model", "--steps", "1"],
    "report": ["--model", "model"],
    "learned": ["--model", "model", "--clips", "1", "--old-clips", "4", "--steps", "1", "--samples", "1"],
}


def smaller(words: list[str]) -> list[str]:
    """A later option wins over an earlier one, so the documented words stay as they are."""
    return words + next((added for command, added in SMALLER.items() if command in words[:2]), [])


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    tiny_nano_pipeline(32, 5).save_pretrained(tmp_path / "model")
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(page) for line in block.strip().splitlines()]
    assert len(lines) >= 10
    for line in lines:
        words = smaller(shlex.split(line, comments=True)[1:])
        result = CliRunner().invoke(app, words)
        # owls of nine frames: the doctor says that they are short
        fit = result.exit_code == 0 or words[:2] == ["data", "doctor"]
        assert fit, f"{line}\n{result.output}\n{result.exception!r}"
    for made in ("run/lora.safetensors", "owl.mp4", "report/report.md", "learned/learned.md", "look/sheets"):
        assert (tmp_path / made).exists()


def test_the_script_takes_the_pages_own_steps() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    script = (ROOT / "scripts" / "tutorial.sh").read_text(encoding="utf-8")
    for step in ("nano world -o clips -n 20 --scene owl", "nano world -o others -n 60 --seed 20000"):
        assert step in page
        assert step in script
    for picture in re.findall(r"images/(tutorial-[a-z-]+)", page):
        assert picture in script
