"""`phonofilm data`: what the commands print, write and exit with."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Golden
from tests.media_makers import write_frames_at
from typer.testing import CliRunner, Result

from phonofilm.cli.main import app
from phonofilm.data.cache import read_index
from phonofilm.media import Clip, load_image, save_clip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good clip and one whose sound starts late."""
    data = tmp_path / "clips"
    data.mkdir()
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (30, 16, 16, 3), dtype=np.uint8)
    wave = random.normal(0, 0.1, (1, 60000)).astype(np.float32)
    save_clip(Clip(frames, Fraction(24), wave, 48000), data / "good.mp4")
    times = [Fraction(i, 24) for i in range(30)]
    write_frames_at(data / "late.mp4", frames, times, wave=wave[:, :45600], wave_start=Fraction(3, 10))
    for name in ("good", "late"):
        (data / f"{name}.txt").write_text(f"{name} noise")
    return data


def test_doctor_tells_fixes_and_is_content_with_what_it_fixed(folder: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed"
    sick = run("doctor", folder, "--bucket", "16x16x25", "--fix", fixed)
    assert sick.exit_code == 1, sick.output
    assert "start_gap" in sick.output
    assert "2 clips, 1 errors, 0 warnings: unfit" in sick.output
    assert "1 fixed copies and a manifest of all 2 clips" in sick.output
    healthy = run("doctor", fixed, "--bucket", "16x16x25")
    assert healthy.exit_code == 0, healthy.output
    assert "fit" in healthy.output
    assert run("doctor", folder, "--fix", fixed).exit_code == 2


def test_doctor_as_json(folder: Path) -> None:
    told = json.loads(run("doctor", folder, "--bucket", "16x16x25", "--json").stdout)
    assert (told["clips"], told["fit"]) == (2, False)
    assert [f["kind"] for f in told["findings"] if f["severity"] == "note"] == ["offset", "offset"]
    (finding,) = (f for f in told["findings"] if f["severity"] != "note")
    assert (finding["clip"], finding["kind"], finding["fixable"]) == ("late.mp4", "start_gap", True)
    assert abs(finding["value"] - 0.3) < 0.025  # AAC begins with a frame of its own


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["--bucket", "16x16x49"], {"too_short"}),
        (["--bucket", "16x16x25", "--frame-rate", "12"], {"too_short"}),
        (["--bucket", "16x16x49", "--bucket", "16x16x9"], set()),
    ],
)
def test_windows_decide_what_is_too_short(folder: Path, options: list[str], kinds: set[str]) -> None:
    (folder / "late.mp4").unlink()
    told = json.loads(run("doctor", folder, "--json", *options).stdout)
    assert {finding["kind"] for finding in told["findings"] if finding["severity"] != "note"} == kinds


def test_words_that_mean_nothing(folder: Path, tmp_path: Path) -> None:
    assert "'tail' is unknown" in run("doctor", folder, "--windows", "tail").output
    assert "no folder or manifest" in run("doctor", tmp_path / "none").output
    assert run("doctor", folder, "--bucket", "big").exit_code == 2


def test_cache_and_show(folder: Path, tmp_path: Path, basic: Golden) -> None:
    out, small = tmp_path / "cache", ["--bucket", "16x16x5", "--model", basic.checkpoint, "--device", "cpu"]
    made = run("cache", folder, "-o", out, *small)
    assert made.exit_code == 0, made.output
    assert "latents: 2 made, 0 kept; text: 3 made, 0 kept; 0 stale files removed" in made.output
    assert f"train on it with data.cache={out}" in made.output.replace("\n", "")
    assert {path.name for path in out.iterdir()} == {"latents", "text", "index.json"}
    several = run(
        "cache", folder, folder, "--weight", 1, "--weight", 2, "-o", out, *small, "--windows", "several", "--count", 3
    )
    assert "latents: 4 made, 2 kept; text: 0 made, 3 kept" in several.output
    assert sum(entry.weight for entry in read_index(out).entries) == 18
    shown = run("show", out, "--first", 1, "-n", 2, "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    sheets = sorted((out / "sheets").glob("*.png"))
    assert [sheet.name for sheet in sheets] == ["0001-good.png", "0002-good.png"]
    assert load_image(sheets[0]).width > 400
    assert run("cache", folder, "--weight", 1, "--weight", 1, "-o", out, *small).exit_code == 2
    (folder / "sets.yaml").write_text("- {path: ., weight: 1.5}\n")
    assert run("cache", folder / "sets.yaml", "-o", out, *small).exit_code == 0
    assert {entry.weight for entry in read_index(out).entries} == {1.5}


def test_silent_clips_can_be_refused(folder: Path, tmp_path: Path, basic: Golden) -> None:
    save_clip(Clip(np.zeros((9, 16, 16, 3), np.uint8), Fraction(24)), folder / "mute.mp4")
    (folder / "mute.txt").write_text("nothing")
    refused = run("cache", folder, "-o", tmp_path / "cache", "--bucket", "16x16x5", "--refuse-silent")
    assert (refused.exit_code, "mute.mp4 has no sound" in refused.output.replace("\n", "")) == (2, True)
    told = json.loads(run("doctor", folder, "--bucket", "16x16x5", "--refuse-silent", "--json").stdout)
    assert ("mute.mp4", "no_sound", "error") in [(f["clip"], f["kind"], f["severity"]) for f in told["findings"]]
