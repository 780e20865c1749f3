"""A wheel of this tree, installed in an empty environment outside of it, makes a clip. Minutes; needs an index of packages."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = """
import sys
import phonofilm
from phonofilm import load, read_clip, save_clip
assert "site-packages" in phonofilm.__file__, phonofilm.__file__
save_clip(load("nano", device="cpu").generate(sys.argv[1], seed=7, steps=4), "clip.mp4")
print(read_clip("clip.mp4").num_frames)
"""
PROMPT = 'A red face with a pink bow says "ah" in a high voice.'


@pytest.mark.slow
def test_a_wheel_makes_a_clip_in_an_empty_environment(tmp_path: Path) -> None:
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "wheels", ROOT)
    (wheel,) = (tmp_path / "wheels").glob("phonofilm-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    frames = run(python, "-c", MAKE, PROMPT).split()[-1]
    command = run(tmp_path / "venv" / "bin" / "phonofilm", "generate", PROMPT, "--seed", "7", "--steps", "4")
    assert command.split()[-1] == "clip-2.mp4"
    assert int(frames) > 1
