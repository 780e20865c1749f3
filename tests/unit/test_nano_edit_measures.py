"""Measuring films, keyframes, voices and lips: the figures of clips whose truth is known, and clips that are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.integration.cli import CHECKPOINT

from phonofilm import Clip, Session, load
from phonofilm.nano.world import HELD_OUT_SEED, WorldClip, make_clip
from recipes.nano.measuring import joins, keyframes, lips, session_clips, voices
from recipes.nano.measuring.session_clips import Request, Sampling, SessionClips, held_out


def shown(world: WorldClip) -> Clip:
    return Clip(world.frames, world.frame_rate, world.audio[None], world.sampling_rate)


@pytest.fixture(scope="module")
def faces() -> list[WorldClip]:
    return held_out("face", 4)


def test_lips_of_the_world_follow_their_own_sound_and_no_other(faces: list[WorldClip]) -> None:
    clips = [shown(face) for face in faces]
    late = [replace(clip, audio=np.roll(clip.audio, 2000, axis=1)) for clip in clips if clip.audio is not None]
    found = lips.report(faces, clips, late, clips)
    assert found["its own sound"]["within a frame"] == found["its own sound, given"]["within a frame"] == 100
    assert found["a given sound"]["within a frame"] < 50
    assert found["a given sound"]["median lag ms"] > 100  # the sound is 125 ms late
    assert found["a given sound, shuffled"]["events"] == 3 * found["a given sound"]["events"]
    assert found["given sound kept to the sample"] == 0
    assert lips.report(faces, clips, clips, clips)["given sound kept to the sample"] == 100


def test_the_distance_to_a_keyframe_is_that_of_the_frame_at_its_time() -> None:
    worlds = [make_clip(HELD_OUT_SEED + index) for index in range(2)]
    clips = [shown(world) for world in worlds]
    brighter = []
    for clip in clips:
        frames = clip.frames.copy()
        frames[30] = np.where(frames[30] < 250, frames[30] + 5, frames[30] - 5)
        brighter.append(replace(clip, frames=frames))
    found = keyframes.report(worlds, clips, brighter)
    assert found["with the keyframe"]["distance at the keyframe"] == 0
    assert found["without it"]["distance at the keyframe"] == 5
    all_events = sum(len(world.events) for world in worlds)
    assert 0 < found["with the keyframe"]["sync elsewhere"]["events"] <= all_events


def test_a_voice_is_kept_where_it_is_the_samples() -> None:
    speakers = voices.samples(4)
    assert [speaker.attributes["voice"] for speaker in speakers] == ["low", "high"] * 2
    clips = [shown(speaker) for speaker in speakers]
    silent = replace(clips[0], audio=np.zeros((1, 16000), np.float32))
    found = voices.report(speakers, clips, [silent, clips[0], *clips[2:]])
    assert found["with the sample"]["the sample's voice"] == 100
    assert found["without it"] == {
        "the sample's voice": 50,
        "by voice": {"low": 50, "high": 50},
        "heard": {"high": 1, "low": 2, "none": 1},
    }


def test_a_join_that_is_seen_and_heard_has_the_highest_rank() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(100, 110, (40, 8, 8, 3)).astype(np.uint8)
    wave = 0.1 * np.sin(np.arange(40 * 2000) / 20).astype(np.float32) + rng.normal(0, 1e-3, 40 * 2000).astype(
        np.float32
    )
    even = joins.Film(Clip(frames.copy(), 24, wave[None].copy(), 48000), (20,))
    frames[20:] += 60
    wave[40000:] *= -3
    uneven = joins.Film(Clip(frames.copy(), 24, wave[None].copy(), 48000), (20,))
    assert set(joins.ranks(uneven)) == set(joins.FIGURES)
    assert all(rank == [1.0] for rank in joins.ranks(uneven).values())
    found = joins.report([even, uneven], [even.clip])
    assert found["joins"] == 2
    assert found["brightness"]["above 95 of 100 places"] >= 0.5


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with load(CHECKPOINT, device="cpu") as session:
        yield session


def test_a_clip_is_made_once_for_its_settings_and_inputs(
    session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    red = Request("a man", 1, Image.new("RGB", (32, 32), "red"), size="32x32", seconds=0.2)
    clips = SessionClips(session, tmp_path, Sampling(steps=1))
    first, other = clips.make("row", [red, replace(red, image=Image.new("RGB", (32, 32), "blue"))])
    assert not np.array_equal(first.frames, other.frames)
    logged = [record.message for record in caplog.records if record.name == session_clips.__name__]
    assert [line.split(",")[0] for line in logged] == ["row: 1 of 2", "row: 2 of 2"]
    written = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    (again,) = clips.make("row", [red])
    assert np.array_equal(again.frames, first.frames)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written
    SessionClips(session, tmp_path, Sampling(steps=2)).make("row", [red])
    assert len(list(tmp_path.iterdir())) == 3
