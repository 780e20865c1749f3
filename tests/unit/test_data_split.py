"""Films become scenes: found where they are, as long as asked for, in pauses on request, and not found twice."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.media_makers import write_frames_at
from tests.unit.test_data_doctor import scene
from typer.testing import CliRunner, Result

from phonofilm.cli.main import app
from phonofilm.data import split as splitting
from phonofilm.data.manifest import read_manifest
from phonofilm.data.split import SplitSettings, pieces
from phonofilm.errors import InputError
from phonofilm.media import Clip, read_clip, save_clip

RATE = 24
SCENES = (60, 84, 48, 12)  # frames


def voice(seconds: float, breaks: tuple[float, ...]) -> np.ndarray:
    """A murmur that pauses for 0.3 s at each of `breaks`."""
    wave = np.random.default_rng(0).normal(0, 0.2, (1, round(48000 * seconds))).astype(np.float32)
    for at in breaks:
        wave[:, round(48000 * at) : round(48000 * (at + 0.3))] *= 1e-3
    return wave


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = np.concatenate([scene(count, seed=i) for i, count in enumerate(SCENES)])
    wave = voice(len(frames) / RATE, (2.2, 2.8, 5.4, 6.3, 7.75))
    path = save_clip(Clip(frames, Fraction(RATE), wave, 48000), tmp_path / "films" / "film.mp4")
    path.with_suffix(".txt").write_text("everything")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "split", *map(str, arguments)], env={"COLUMNS": "200"})


def stretches(folder: Path) -> list[tuple[float, float]]:
    return [(float(item.start or 0), float(item.end or 0)) for item in read_manifest(folder)]


def test_scenes_are_found_on_their_first_frame(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    done = run(film.parent, "-o", out, "--longest", 0)
    assert done.exit_code == 0, done.output
    assert "3 scenes of 1 clips" in done.output
    assert "1 captions spoke of a whole clip" in done.output
    ends = np.cumsum(SCENES) / RATE
    assert stretches(out) == [pytest.approx(pair) for pair in pairwise([0, *ends[:3]])]
    assert {(item.file.resolve(), item.caption) for item in read_manifest(out)} == {(film, None)}


def flashing(frames: np.ndarray, period: int, bright: int) -> np.ndarray:
    """White for `bright` of every `period` frames."""
    made = frames.copy()
    made[np.arange(len(frames)) % period < bright] = 255
    return made


THREE = np.concatenate([scene(72, seed=i) for i in range(3)])


@pytest.mark.parametrize(
    ("frames", "count"),
    [
        (flashing(THREE, 9, 2), 3),
        (flashing(THREE, 24, 3), 3),
        (np.concatenate([THREE[:72], flashing(THREE[72:144], 9, 2), THREE[144:]]), 3),
        (flashing(scene(150, seed=4), 10, 2), 1),
    ],
    ids=["all flash", "slowly", "the middle one", "one scene"],
)
def test_flashes_are_no_cuts_and_hide_none(tmp_path: Path, frames: np.ndarray, count: int) -> None:
    save_clip(Clip(frames, Fraction(RATE)), tmp_path / "films" / "film.mp4")
    done = run(tmp_path / "films", "-o", tmp_path / "out", "--longest", 0)
    assert done.exit_code == 0, done.output
    assert f"{count} scenes of 1 clips" in done.output
    assert "film.mp4: " in done.output
    assert "taken for flashes, not for cuts" in done.output
    if count == 3:
        assert stretches(tmp_path / "out") == [pytest.approx((begin, begin + 3)) for begin in (0, 3, 6)]
    again = run(tmp_path / "films", "-o", tmp_path / "out", "--longest", 0)
    assert "taken for flashes" in again.output


def test_a_record_that_was_changed_is_reported(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    assert run(film.parent, "-o", out, "--longest", 0).exit_code == 0
    (record,) = (out / "scenes").glob("*.json")
    record.write_text('{"scenes": [["1e999999999", "2"]], "flashes": 0}')
    done = run(film.parent, "-o", out, "--longest", 0)
    assert done.exit_code == 1
    assert "looked at again" in done.output


def test_a_clip_of_one_scene_stays_as_it_is(film: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    save_clip(Clip(scene(72), Fraction(RATE)), one / "a.mp4")
    (one / "list.csv").write_text("file,caption,repeats\na.mp4,a square,3\n")
    assert run(one / "list.csv", "-o", tmp_path / "out").exit_code == 0
    (item,) = read_manifest(tmp_path / "out")
    assert (item.file.resolve(), item.caption, item.start, item.end, item.repeats) == (
        one / "a.mp4",
        "a square",
        None,
        None,
        3,
    )


def test_scenes_of_a_variable_rate_and_of_a_stretch(tmp_path: Path) -> None:
    frames = np.concatenate([scene(40, seed=1), scene(40, seed=2)])
    times = [Fraction(i, 24) if i < 40 else Fraction(40, 24) + Fraction(i - 40, 12) for i in range(80)]
    write_frames_at(tmp_path / "v.mp4", frames, times)
    (tmp_path / "list.jsonl").write_text('{"file": "v.mp4", "start": 0.5, "end": 4.5}')
    assert run(tmp_path / "list.jsonl", "-o", tmp_path / "out", "--shortest", 1).exit_code == 0
    cut = pytest.approx(40 / 24, abs=1e-4)
    assert stretches(tmp_path / "out") == [(0.5, cut), (cut, 4.5)]


def test_what_was_found_is_not_looked_for_again(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "scenes"
    assert run(film.parent, "-o", out).exit_code == 0
    before = (out / "manifest.jsonl").read_text()
    looked: list[Path] = []
    real = splitting.scene_starts
    monkeypatch.setattr(splitting, "scene_starts", lambda path, *rest: looked.append(path) or real(path, *rest))
    assert run(film.parent, "-o", out).exit_code == 0
    assert looked == []
    assert (out / "manifest.jsonl").read_text() == before
    assert run(film.parent, "-o", out, "--shortest", 3).exit_code == 0
    assert looked == [film]
    save_clip(Clip(scene(48), Fraction(RATE)), film)
    assert run(film.parent, "-o", out).exit_code == 0
    assert looked == [film] * 2


def test_a_clip_that_cannot_be_read_is_told_and_the_others_are_split(film: Path, tmp_path: Path) -> None:
    (film.parent / "a.mp4").write_bytes(b"nothing")
    done = run(film.parent, "-o", tmp_path / "out", "--longest", 0)
    assert done.exit_code == 1
    assert "a.mp4: " in done.output
    assert len(read_manifest(tmp_path / "out")) == 3


def test_clips_of_their_own_hold_their_scene(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "clips"
    assert run(film.parent, "-o", out, "--clips", "--longest", 0).exit_code == 0
    items = read_manifest(out)
    assert [(item.start, item.end) for item in items] == [(None, None)] * 3
    whole = read_clip(film)
    assert whole.audio is not None
    begin = 0
    for item, count in zip(items, SCENES, strict=False):
        clip = read_clip(item.file)
        assert clip.num_frames == count
        assert np.abs(clip.frames.astype(int) - whole.frames[begin : begin + count]).mean() < 6
        assert clip.audio is not None
        heard, meant = clip.audio[0, 2000:6000], whole.audio[0, begin * 2000 + 2000 : begin * 2000 + 6000]
        assert np.corrcoef(heard, meant)[0, 1] > 0.9
        begin += count
    dates = [item.file.stat().st_mtime_ns for item in items]
    items[1].file.unlink()
    assert run(film.parent, "-o", out, "--clips", "--longest", 0).exit_code == 0
    again = [item.file.stat().st_mtime_ns for item in read_manifest(out)]
    assert [a == b for a, b in zip(dates, again, strict=True)] == [True, False, True]


def test_edges_and_divisions_lie_in_pauses_on_request(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    assert run(film.parent, "-o", out, "--shortest", 1, "--longest", 3, "--at-pauses").exit_code == 0
    wave = read_clip(film).audio
    assert wave is not None
    found = stretches(out)
    assert len(found) == 3
    for begin, end in found:
        for inside in ((begin, begin + 0.01), (end - 0.01, end)):
            if inside[0] > 0:
                heard = wave[0, round(48000 * inside[0]) : round(48000 * inside[1])]
                assert np.abs(heard).max() < 0.05, (inside, found)
    json_file = next((out / "scenes").glob("*.json"))
    assert json.loads(json_file.read_text())


def test_how_scenes_are_divided() -> None:
    to = SplitSettings(Fraction(1), Fraction(4))
    assert pieces(Fraction(0), Fraction(10), [Fraction(1, 2)], (), to) == [
        (Fraction(1, 2) + Fraction(19, 6) * i, Fraction(1, 2) + Fraction(19, 6) * (i + 1)) for i in range(3)
    ]
    quiet = [(Fraction(3), Fraction(7, 2)), (Fraction(39, 10), Fraction(5)), (Fraction(9), Fraction(19, 2))]
    pausing = SplitSettings(Fraction(1), Fraction(4), at_pauses=True)
    parts = pieces(Fraction(0), Fraction(10), (), quiet, pausing)
    assert parts[0] == (0, 4)
    assert all(end - begin <= 4 for begin, end in parts)
    assert parts[-1][1] == Fraction(47, 5)
    with pytest.raises(InputError, match="at least twice as long"):
        SplitSettings(Fraction(3), Fraction(4))
