"""Running the command line in this process, on the golden checkpoint and tiny clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.conftest import GOLDENS
from typer.testing import CliRunner, Result

from phonofilm import read_clip
from phonofilm.cli.main import app

CHECKPOINT = GOLDENS / "basic" / "checkpoint"
IMAGE = GOLDENS / "basic" / "first_frame.png"
TINY_CLIP = ("--size", "32x32", "--num-frames", "5", "--steps", "2", "--seed", "1")
TINY = ("a man speaks", *TINY_CLIP)


def generate(*arguments: str | Path, model: bool = True) -> Result:
    """Run `phonofilm generate`, by default on the golden checkpoint."""
    chosen = ["--model", str(CHECKPOINT)] if model else []
    return CliRunner().invoke(app, ["generate", *chosen, *map(str, arguments)])


def made(*arguments: str | Path, model: bool = True) -> list[Path]:
    """The files that a run, which must succeed, has written."""
    done = generate(*arguments, model=model)
    assert done.exit_code == 0, done.output
    return [Path(line) for line in done.stdout.splitlines()]


def same(a: Path | str, b: Path | str) -> bool:
    """Whether two clips have the same frames and the same sound, bit by bit as decoded."""
    one, other = read_clip(a), read_clip(b)
    assert one.audio is not None
    assert other.audio is not None
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.audio, other.audio)
