"""Clips longer than the model makes at once: in parts, resumed part by part, with a prompt for each stretch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.integration.cli import CHECKPOINT, generate, made

from phonofilm import Clip, Session, load, read_clip, save_clip
from phonofilm.errors import InputError
from phonofilm.generation.films.part_files import parts_folder
from phonofilm.generation.films.timed_prompts import parse_timed_prompts
from phonofilm.media import read_metadata

FILM = ("--size", "32x32", "--part-seconds", "0.375", "--overlap-frames", "5", "--steps", "1", "--device", "cpu")
WORDS: dict[str, Any] = {"size": "32x32", "part_seconds": 0.375, "overlap_frames": 5, "steps": 1}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with load(CHECKPOINT, device="cpu") as session:
        yield session


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def film(session: Session) -> Clip:
    """Two parts of nine frames that share five."""
    return session.generate("a man", seconds=0.5, seed=3, **WORDS)


def test_more_seconds_than_one_clip_has_make_a_film_in_parts(film: Clip) -> None:
    done = generate("a man", *FILM, "--seconds", "0.5", "--seed", "3", "-o", "film")
    assert done.exit_code == 0, done.output
    assert "13 frames, 0.542 s at 24 fps · 2 parts, 1 join · text only" in done.stderr
    assert "part 2 of 2: 0.38 to 0.54 s; about" in done.stderr
    assert done.stdout.split() == ["film"]
    assert not parts_folder(Path("film")).exists()
    written = read_clip("film")
    assert np.array_equal(film.frames, written.frames)
    assert film.audio is not None
    assert film.audio.shape[1] == 48000 * 13 // 24
    assert film.metadata == read_metadata(Path("film"))
    assert (film.metadata["seconds"], film.metadata["forwards"]) == (13 / 24, 4)
    assert "num_frames" not in film.metadata


def test_the_first_part_is_the_clip_of_that_length(session: Session, film: Clip) -> None:
    clip = session.generate("a man", num_frames=9, seed=3, size="32x32", steps=1)
    own = 9 - 4  # before the frames that fade into the next part
    assert np.array_equal(film.frames[:own], clip.frames[:own])


def test_a_short_clip_is_one_part_as_before(session: Session) -> None:
    plan = session.plan("a man", seconds=2, size="32x32")
    assert plan.parts == ()
    assert plan.frames_in_all == 49
    assert session.plan("a man", num_frames=385, size="32x32").parts == ()


def test_24_seconds_of_the_released_model_are_3_parts(session: Session) -> None:
    plan = session.plan("a man", seconds=24, size="32x32", steps=1)
    assert [part.plan.sampling.task.geometry.num_frames for part in plan.parts] == [205, 205, 201]
    assert plan.frames_in_all == 577
    assert "577 frames, 24.042 s at 24 fps · 3 parts, 2 joins · text only (no first frame) · 3 x 1 step " in str(plan)


def test_a_run_that_stopped_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from phonofilm.generation.clip_maker import ClipMaker

    words = ("a man", *FILM, "--seconds", "0.5")
    whole = ClipMaker._run
    runs: list[int] = []

    def stops(self: ClipMaker, *arguments: Any) -> Any:
        runs.append(1)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(ClipMaker, "_run", stops)
    assert generate(*words, "-o", "film").exit_code != 0
    kept = parts_folder(Path("film"))
    assert sorted(file.name for file in kept.iterdir()) == ["1.safetensors", "film.json"]
    account = json.loads((kept / "film.json").read_text(encoding="utf-8"))
    first = load_file(kept / "1.safetensors")["frames"]
    other = generate("a woman", *FILM, "--seconds", "0.5", "-o", "film")
    assert "parts of a film that was begun with another prompt, seed" in other.stderr
    done = generate(*words, "-o", "film")  # without a seed, as before: it takes up the one that was drawn
    assert done.exit_code == 0, done.output
    assert "part 1 of 2 is there already" in done.stderr
    assert len(runs) == 3
    assert not kept.exists()
    said = read_metadata(Path("film"))
    assert said["seed"] == account["seed"]
    assert generate(*words, "--seed", str(account["seed"]), "-o", "whole").exit_code == 0
    assert said["forwards"] == read_metadata(Path("whole"))["forwards"]
    assert np.array_equal(read_clip("film").frames[:5], first[:5])


def test_prompts_with_times_end_parts_and_fill_the_film(session: Session) -> None:
    plan = session.plan("0-0.375: a man; 0.375-1.2: a woman", **WORDS)
    prompts = [part.plan.inputs.prompt for part in plan.parts]
    assert prompts == ["a man", *["a woman"] * 5]
    assert plan.frames_in_all == 29
    assert session.plan({"0-0.375": "a man", "0.375-1.2": "a woman"}, **WORDS).inputs.prompt == (
        "0-0.375: a man; 0.375-1.2: a woman"
    )
    longer = session.plan("0-0.375: a man; 0.375-1: a woman", seconds=2, **WORDS)
    assert longer.frames_in_all == 49
    assert longer.parts[-1].plan.inputs.prompt == "a woman"
    alone = session.plan("0-0.375: a man", **WORDS)
    assert len(alone.parts) == 1


def test_a_file_of_prompts_makes_films_and_passes_over_those_that_are_there() -> None:
    line = {"prompt": {"0-0.375": "a man", "0.375-0.5": "a woman"}, "output": "film.mp4"}
    Path("films.jsonl").write_text(json.dumps(line), encoding="utf-8")
    command = ("--prompts", "films.jsonl", *FILM, "-o", "films")
    assert made(*command) == [Path("films/film.mp4")]
    assert read_metadata(Path("films/film.mp4"))["prompt"] == "0-0.375: a man; 0.375-0.5: a woman"
    assert made(*command) == []


def test_a_parts_own_prompt_changes_it_and_no_part_before(session: Session, film: Clip) -> None:
    other = session.generate("0-0.375: a man; 0.375-0.5: rain", seed=3, **WORDS)
    assert np.array_equal(film.frames[:5], other.frames[:5])
    assert not np.array_equal(film.frames[-4:], other.frames[-4:])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"prompt": "0-2: a; 3-4: b"}, "the prompt of 3-4 s should begin at 2 s"),
        ({"prompt": "1-2: a"}, "should begin at 0 s, where the film begins"),
        ({"prompt": "0-2: a; 2-2: b"}, "2-2 s ends before it begins"),
        ({"prompt": "0-2: a; 2-3: "}, "2-3 s is empty"),
        ({"prompt": "0-2: a", "seconds": 1.0}, "seconds 1 ends before the last prompt does, at 2 s"),
        ({"prompt": "0-2: a", "num_frames": 49}, "leave num_frames out"),
        ({"prompt": "0-2: a", "audio": (np.zeros(48000, np.float32), 48000)}, "leave audio out"),
        ({"prompt": "0-2: a; 2-2.05: b; 2.05-9: c"}, "shorter than 4 frames"),
        ({"prompt": "0-0.3: a; 0.3-9: b"}, "the first part has 9 frames, fewer than overlap_frames 17"),
        ({"prompt": {"now": "a"}}, 'the prompt holds now: a; expected {"0-8"'),
        ({"part_seconds": 1.0}, "part_seconds was given without seconds"),
        ({"seconds": 2.0, "part_seconds": 3.0}, "part_seconds was given, and the clip is made in one part"),
        ({"seconds": 2.0, "overlap_frames": 5}, "overlap_frames was given, and the clip is made in one part"),
        ({"seconds": 9.0, "part_seconds": 0.0}, "part_seconds 0 is not positive"),
        ({"seconds": 9.0, "part_seconds": float("nan")}, "part_seconds nan is not positive"),
        ({"seconds": float("nan")}, "seconds nan is not positive"),
        ({"seconds": 1e9}, "seconds 1e\\+09 is more than 3600"),
        ({"prompt": "0-2: a; 2-1000000: b"}, "seconds 1e\\+06 is more than 3600"),
        ({"prompt": "0:00-0:02: a; 0:02-0:04: b"}, "0:00-0:02: looks like the times of a prompt"),
        ({"prompt": "0-nan: a; 2-4: b"}, "0-nan: looks like the times of a prompt"),
        ({"prompt": "0-2: a, 2-4: b"}, "2-4: in the prompt of 0-2 s looks like the times of another one"),
        ({"prompt": "0-2: a; 2-4 b"}, "2-4 in the prompt of 0-2 s looks like the times of another one"),
        ({"prompt": "0-2: a; 2-1e99: b"}, "2-1e99: looks like the times of a prompt"),
        ({"prompt": "0-2: a; 2-end: b"}, "2-end: looks like the times of a prompt"),
        ({"keyframes": {float("nan"): np.zeros((32, 32, 3), np.uint8)}}, "keyframe at nan s is outside the clip"),
        ({"seconds": 24.0, "overlap_frames": 6}, "overlap_frames 6 must be 1 \\+ a multiple of 4 and below the 193"),
    ],
)
def test_a_film_that_cannot_be_is_refused(session: Session, words: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        session.plan(**({"prompt": "a man", "size": "32x32"} | words))


@pytest.mark.parametrize("prompt", ["8-bit music: a robot dances", "At 3-4: a bell", "A man says: 1-2: go"])
def test_a_plain_prompt_is_not_taken_for_times(session: Session, prompt: str) -> None:
    assert session.plan(prompt=prompt, size="32x32").sampling is not None


def test_times_may_have_their_unit() -> None:
    assert [(one.start, one.end) for one in parse_timed_prompts("0-2s: a; 2s-4.5s: b")] == [(0.0, 2.0), (2.0, 4.5)]


def test_times_may_stand_on_lines_of_their_own() -> None:
    for text in ("0-2: a\n2-4: b", "0-2: a;\n2-4: b", "0-2: a\r\n\r\n2-4: b\n"):
        assert [one.prompt for one in parse_timed_prompts(text)] == ["a", "b"]


def test_a_film_has_no_latents() -> None:
    done = generate("a man", *FILM, "--seconds", "0.5", "-o", "film.safetensors")
    assert done.exit_code == 2
    assert "made in parts has no latents" in done.stderr


def test_several_stretches_are_made_anew_each_with_its_own_prompt(session: Session) -> None:
    clip = session.generate("a man", num_frames=25, seed=3, size="32x32", steps=1)
    save_clip(clip, "clip")
    done = generate(
        *("--video", "clip", "--retake", "0.1:0.2=rain", "--retake", "0.71:0.8=a bell", "--steps", "1"),
        *("--seed", "1", "--device", "cpu", "-o", "mended"),
    )
    assert done.exit_code == 0, done.output
    assert "2 runs · picture and sound anew from 0.1 to 0.2 and 0.71 to 0.8 s" in done.stderr
    mended = read_clip("mended")
    changed = (mended.frames != clip.frames).any((1, 2, 3))
    assert changed[1:5].all()
    assert changed[17:21].all()
    assert not changed[[0, *range(5, 17), *range(21, 25)]].any()
    assert clip.audio is not None
    assert mended.audio is not None
    assert mended.audio.shape == clip.audio.shape
    assert np.abs(mended.audio - clip.audio)[:, 48000 // 4 : 48000 * 6 // 10].max() < 1e-4  # 16 bits in the folder
    assert read_metadata(Path("mended"))["retake"] == "0.1:0.2=rain; 0.71:0.8=a bell"


def test_a_stretch_of_a_long_clip_is_made_in_a_window_of_it(session: Session) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (301, 32, 32, 3), dtype=np.uint8)
    clip = Clip(frames, Fraction(24), np.zeros((1, 301 * 2000), np.float32), 48000)
    plan = session.plan("rain", video=clip, retake=(6.0, 6.1))
    assert plan.sampling.task.geometry.num_frames == 217
    assert plan.frames_in_all == 301
    (part,) = plan.parts
    assert part.plan.inputs.tracks.retake == pytest.approx((6 - 37 / 24, 6.1 - 37 / 24))
    for stretch, complaint in (("1:13", "not a stretch of a clip of 12.542 s"), ("2:9", "longer than 4.5 s")):
        with pytest.raises(InputError, match=complaint):
            session.plan("rain", video=clip, retake=stretch)
