"""`phonofilm nano world`: clips, captions, the manifest, and the hidden state kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from phonofilm.cli.nano import app
from phonofilm.errors import InputError
from phonofilm.media import read_clip
from phonofilm.nano.world import make_clip
from phonofilm.nano.world_files import export_world


def test_clips_captions_and_manifest_agree(tmp_path: Path) -> None:
    paths = list(export_world(tmp_path, 2, first_seed=7, size=32, num_frames=13))
    manifest = json.loads((tmp_path / "metadata.json").read_text())
    assert [entry["path"] for entry in manifest] == [path.name for path in paths]
    for seed, (path, entry) in enumerate(zip(paths, manifest, strict=True), start=7):
        world = make_clip(seed, size=32, num_frames=13)
        assert entry["caption"] == world.caption == path.with_suffix(".txt").read_text().strip()
        clip = read_clip(path)
        assert clip.frames.shape == world.frames.shape
        assert clip.frame_rate == world.frame_rate
        assert np.abs(clip.frames.astype(int) - world.frames).mean() < 6
        assert clip.audio is not None
        assert abs(clip.audio.shape[1] / clip.sampling_rate - len(world.audio) / 16000) < 0.05


def test_the_truth_is_beside_the_clip_and_not_in_what_training_reads(tmp_path: Path) -> None:
    (path,) = export_world(tmp_path, 1, scene="ball", size=32, num_frames=25)
    truth = json.loads(path.with_suffix(".json").read_text())
    assert truth["events"][0]["kind"] == "impact"
    assert truth["attributes"]["scene"] == "ball"
    assert set(json.loads((tmp_path / "metadata.json").read_text())[0]) == {"path", "caption"}
    assert "events" not in read_clip(path).metadata


def test_every_option_of_the_command_changes_the_clips(tmp_path: Path) -> None:
    def run(name: str, *options: str) -> tuple[int, np.ndarray, str]:
        result = CliRunner().invoke(app, ["world", "--output", str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
        clips = sorted((tmp_path / name).glob("*.mp4"))
        return len(clips), read_clip(clips[0]).frames, clips[0].name

    base = ("-n", "1", "--size", "32", "--frames", "5", "--scene", "lamp")
    count, frames, name = run("a", *base)
    assert (count, frames.shape) == (1, (5, 32, 32, 3))
    assert name.startswith("lamp")
    assert run("b", *base, "-n", "2")[0] == 2
    assert run("c", *base, "--size", "48")[1].shape == (5, 48, 48, 3)
    assert run("d", *base, "--frames", "9")[1].shape[0] == 9
    assert run("e", *base, "--scene", "face")[2].startswith("face")
    assert not np.array_equal(run("f", *base, "--seed", "3")[1], frames)


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    list(export_world(tmp_path, 1, size=32, num_frames=5))
    with pytest.raises(InputError, match="choose another folder"):
        list(export_world(tmp_path, 1, size=32, num_frames=5))
    with pytest.raises(InputError, match="ask for 1 or more"):
        list(export_world(tmp_path / "x", 0))
