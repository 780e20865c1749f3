"""The commands and the Python in the README and in the guides run as they stand, top to bottom, beside examples/."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phonofilm.cli.main import app

ROOT = Path(__file__).parents[2]
# Each page, and how many of its blocks and commands run at least.
PAGES = {
    "README.md": 4,
    "docs/generate.md": 4,
    "docs/data.md": 4,
    "docs/prompts.md": 3,
    "docs/first-mova-clip.md": 1,
    "docs/python.md": 3,
    "docs/memory.md": 1,
    "docs/long-films.md": 1,
    "docs/evaluation.md": 2,
}
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Set-up, which the test run itself is; and the released weights, 78 GB that no test machine has.
NOT_HERE = (
    "make ",
    "pip install",
    "models download",
    "--model 360p -o",
    "--model 360p --image",
    "torchrun",
    "scripts/",
    # Sixteen clips; made with fewer in tests/unit/test_evaluation_run.py. What is ready here depends on weights.
    "evaluate --generate",
    "settings/",
    "evaluate --check",
    # Asks a language model; tests/unit/test_writing.py does, of a fake one.
    "phonofilm prompt ",
    "prompt.txt",
)


@pytest.mark.parametrize("page", PAGES)
def test_documented_commands_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    run = 0
    for language, code in blocks:
        if language == "python":
            exec(compile(code, page, "exec"), {})
            run += 1
            continue
        for line in code.strip().splitlines():
            if any(part in line for part in NOT_HERE):
                continue
            words = shlex.split(line, comments=True)
            if words[0] == "phonofilm":
                result = CliRunner().invoke(app, words[1:])
                assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception}"
            else:
                subprocess.run(["bash", "-c", line], check=True)
            run += 1
    assert run >= PAGES[page]
