"""Pictures held at given times, a voice's sample before the clip, and a given sound that keeps its place to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.integration.cli import CHECKPOINT, generate

from phonofilm import Session, load, read_clip
from phonofilm.errors import InputError
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.media import read_audio, read_metadata
from phonofilm.media.wav import write_wav
from phonofilm.pipeline.edit_tasks import CUT_LATENTS

SMALL: dict[str, Any] = {"size": "32x32", "steps": 1, "seed": 1}
RED = Image.new("RGB", (32, 32), "red")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with load(CHECKPOINT, device="cpu") as session:
        yield session


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RED.save("red.png")
    Image.new("RGB", (32, 32), "blue").save("blue.png")


def sample(seconds: float, rate: int = 48000) -> tuple[np.ndarray, int]:
    return np.sin(np.arange(round(seconds * rate)) / 20).astype(np.float32)[None], rate


def held(plan: ClipPlan) -> list[int]:
    """The latent frames whose picture is held."""
    task = plan.sampling.task
    return [] if task.video is None else np.flatnonzero(task.video.where).tolist()


def test_a_picture_is_held_at_its_time(session: Session) -> None:
    plan = session.plan("a man", keyframes={0.5: RED, 0.9: "blue.png"}, num_frames=25, **SMALL)
    assert held(plan) == [3, 6]  # frames 9 to 12 and 21 to 24
    task = plan.sampling.task
    assert task.video is not None
    assert (task.video.data[:17] == (255, 0, 0)).all()
    assert (task.video.data[17:] == (0, 0, 255)).all()
    assert "2 keyframes given" in str(plan)


def test_keyframes_are_kept_in_the_file_and_repeated(session: Session) -> None:
    words = ("--size", "32x32", "--num-frames", "9", "--steps", "1", "--seed", "1", "--device", "cpu")
    done = generate("a man", *words, "--keyframe", "0.2=red.png", "-o", "clip")
    assert done.exit_code == 0, done.output
    (recorded,) = read_metadata(Path("clip"))["keyframes"]
    assert (recorded["path"], recorded["seconds"]) == ("red.png", "0.2")
    assert generate("--like", "clip", "-o", "again", "--output-type", "frames").exit_code == 0
    assert np.array_equal(read_clip("clip").frames, read_clip("again").frames)


def test_each_part_of_a_film_holds_its_own_keyframes(session: Session) -> None:
    words = SMALL | {"seconds": 1.0, "part_seconds": 0.375, "overlap_frames": 5}
    film = session.plan("a man", keyframes={0.1: RED, 0.9: RED}, **words)
    assert [held(part.plan) for part in film.parts] == [[1], [0, 1], [0, 1], [0, 1], [0, 1, 2]]


def test_a_voice_stands_before_the_clip_and_is_cut_off(session: Session) -> None:
    plan = session.plan("a man", voice=sample(0.1), image=RED, num_frames=9, **SMALL)
    task = plan.sampling.task
    assert (task.lead, task.geometry.num_frames, plan.frames_in_all) == (4, 13, 9)
    assert held(plan) == [1]  # the clip begins with its first frame, and so does the sample
    assert task.audio is not None
    begin = 48000 * 4 // 24
    assert len(task.audio.data) == begin
    assert (task.audio.data[: begin - 4800] == 0).all()
    assert task.audio.where.sum() == begin // 960 - CUT_LATENTS
    clip = session.make(plan)
    assert clip.num_frames == 9
    assert clip.audio is not None
    assert clip.audio.shape[1] == 48000 * 9 // 24
    assert clip.metadata["num_frames"] == 9
    assert [one["option"] for one in clip.metadata["inputs"]] == ["image", "voice"]
    without = session.generate("a man", image=RED, num_frames=9, **SMALL)
    assert not np.array_equal(clip.audio, without.audio)


def test_without_a_length_the_sample_takes_its_part_of_the_models_own(session: Session) -> None:
    plan = session.plan("a man", voice=sample(1.0), **SMALL)
    assert plan.sampling.task.geometry.num_frames == 193
    assert plan.frames_in_all == 193 - 24
    assert "after a voice of 1.00 s (1.00 s are made and cut off)" in str(plan)


def test_a_film_begins_after_the_voice(session: Session) -> None:
    film = session.plan("a man", voice=sample(0.1), seconds=0.7, part_seconds=0.375, overlap_frames=5, **SMALL)
    assert [part.plan.sampling.task.lead for part in film.parts] == [4, 0, 0]
    assert film.frames_in_all == 17


def test_a_sound_that_leads_is_in_the_file_to_the_sample() -> None:
    wave, rate = sample(0.371, 44100)
    write_wav(Path("voice.wav"), wave, rate)
    given, _ = read_audio(Path("voice.wav"))
    words = ("--size", "32x32", "--steps", "1", "--seed", "1", "--device", "cpu", "--image", "red.png")
    done = generate("a man", "--audio", "voice.wav", *words, "-o", "lips.mp4")
    assert done.exit_code == 0, done.output
    kept, kept_rate = read_audio(Path("lips.mp4"))
    assert kept_rate == rate
    assert kept.shape == given.shape
    assert np.abs(kept - given).max() < 1e-6  # the file holds 32-bit integers
    assert read_clip("lips.mp4").num_frames == 9  # 0.375 s, the first whole frame after the sound's end


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"keyframes": {9.0: RED}, "num_frames": 25}, "keyframe at 9 s is outside the clip, which is 1.042 s"),
        ({"keyframes": {0.0: RED}, "num_frames": 25}, "give it as image"),
        ({"keyframes": {0.5: RED, 0.52: RED}, "num_frames": 25}, "two keyframes are closer than 0.17 s"),
        ({"keyframes": {1.0: RED}, "last_image": RED, "num_frames": 25}, "last_image are closer than 0.17 s"),
        ({"voice": (np.zeros((1, 48000), np.float32), 48000)}, "the voice's sample is silent"),
        ({"keyframes": {99.0: RED}, "seconds": 24.0}, "keyframe at 99 s is outside the film"),
        ({"voice": sample(5.0)}, "the voice's sample lasts 5.00 s; at most half of the model's"),
        ({"voice": sample(1.0), "audio": sample(1.0)}, "give one of video, audio, continue_from and voice"),
    ],
)
def test_what_cannot_be_held_is_refused(session: Session, words: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        session.plan("a man", **SMALL | words)


def test_a_keyframe_is_a_time_and_a_file() -> None:
    assert "is not SECONDS=FILE; use for example 3.5=picture.png" in generate("a man", "--keyframe", "red.png").stderr
    assert "no file at none.png" in generate("a man", "--keyframe", "1=none.png").stderr
