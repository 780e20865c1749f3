"""Where `phonofilm nano` finds the recipe, and what it says where the package was installed without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "phonofilm"


def phonofilm(*words: str, source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line of the package in `source`, run in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(source), "COLUMNS": "300"}
    command = [sys.executable, "-m", "phonofilm", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_recipe_is_found_from_any_folder(tmp_path: Path) -> None:
    done = phonofilm("nano", "train", "--run", "run", "--stage", "none", source=PACKAGE.parent, folder=tmp_path)
    assert done.returncode == 2
    assert "unknown stage none; the stages are video-vae, audio-vae" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--run", "run"),
        ("measure", "--output", "out"),
        ("learned", "--lora", "x.safetensors", "--trained-on", ".", "--output", "out"),
    ],
)
def test_an_installation_without_the_recipe_says_where_it_is(words: tuple[str, ...], tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "site" / "phonofilm", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    done = phonofilm("nano", *words, source=tmp_path / "site", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the recipe of the embedded model is not part of the installed package")
    assert "clone the repository" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
