"""The owl, a scene that the embedded model never saw: like the others deterministic, and read only where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.test_nano_sight import blurred, mixed_with_neighbours

from phonofilm.evaluation.sync import match
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, UNSEEN_SCENES, WorldClip, make_clip
from phonofilm.nano.world.owl import NOTE_SECONDS
from recipes.nano.measuring.owl_reader import read_calls, read_owl

FRAME = 1 / 24
FIRST = HELD_OUT_SEED + 6000


@pytest.fixture(scope="module")
def owls() -> list[WorldClip]:
    return [make_clip(seed, scene="owl") for seed in range(FIRST, FIRST + 16)]


def whole_calls(clip: WorldClip) -> list[float]:
    """The calls that the clip's end does not cut off: of the others the second note is not heard."""
    return [event.time for event in clip.events if event.time < len(clip.frames) * FRAME - 2 * NOTE_SECONDS]


def within_a_frame(true: list[float], found: tuple[float, ...]) -> bool:
    lags = match(true, found).lags
    return len(lags) == len(true) == len(found) and all(abs(lag) <= FRAME for lag in lags)


def test_a_seed_decides_the_whole_clip(owls: list[WorldClip]) -> None:
    again = make_clip(FIRST, scene="owl")
    assert np.array_equal(again.frames, owls[0].frames)
    assert np.array_equal(again.audio, owls[0].audio)
    assert (again.caption, again.events, again.attributes) == (owls[0].caption, owls[0].events, owls[0].attributes)


def test_an_owl_comes_only_when_it_is_asked_for() -> None:
    assert not set(SCENES) & set(UNSEEN_SCENES)
    scenes = {make_clip(seed, num_frames=1, size=16).attributes["scene"] for seed in range(200)}
    assert scenes == set(SCENES)


def test_captions_name_owl_and_colour(owls: list[WorldClip]) -> None:
    for clip in owls:
        assert f"{clip.attributes['colour']} owl" in clip.caption


def test_an_owl_is_seen_and_heard_and_both_at_its_hidden_times(owls: list[WorldClip]) -> None:
    for clip in owls:
        owl = read_owl(clip.frames, clip.frame_rate)
        true = [event.time for event in clip.events]
        assert owl.seen
        assert owl.colour == clip.attributes["colour"]
        assert within_a_frame(true, owl.events)
        assert within_a_frame(whole_calls(clip), read_calls(clip.audio, clip.sampling_rate))


def test_it_is_still_read_behind_a_codec(owls: list[WorldClip]) -> None:
    noise = np.random.default_rng(0)
    for clip in owls:
        smeared = blurred(mixed_with_neighbours(clip.frames)) + noise.normal(0, 4, clip.frames.shape)
        owl = read_owl(np.clip(smeared + 0.5, 0, 255).astype(np.uint8), clip.frame_rate)
        true = [event.time for event in clip.events]
        assert owl.colour == clip.attributes["colour"]
        assert within_a_frame(true, owl.events)
        noisy = clip.audio + noise.normal(0, 0.01, clip.audio.shape).astype(np.float32)
        assert within_a_frame(whole_calls(clip), read_calls(noisy, clip.sampling_rate))


@pytest.mark.parametrize("scene", list(SCENES))
def test_no_owl_is_seen_or_heard_in_the_old_scenes(scene: str) -> None:
    for seed in range(FIRST, FIRST + 16):
        clip = make_clip(seed, scene=scene)
        assert not read_owl(clip.frames, clip.frame_rate).seen
        assert not read_calls(clip.audio, clip.sampling_rate)


def test_an_owl_without_eyes_or_table_is_none(owls: list[WorldClip]) -> None:
    clip = next(c for c in owls if c.attributes["background"] == "grey")
    no_table, no_eyes = clip.frames.copy(), clip.frames.copy()
    no_table[:, 52:] = no_table[:, 51:52]
    pale = no_eyes.astype(np.int16)
    plain = (pale.max(-1) - pale.min(-1) < 40) | (pale.max(-1) < 60)
    inside = np.zeros_like(plain)
    inside[:, 22:38, 14:50] = True
    no_eyes[plain & inside] = no_eyes[0, 42, 32]
    assert read_owl(clip.frames, clip.frame_rate).seen
    assert not read_owl(no_table, clip.frame_rate).seen
    assert not read_owl(no_eyes, clip.frame_rate).seen


def test_the_calls_notes_must_come_in_their_order(owls: list[WorldClip]) -> None:
    clip = owls[0]
    assert not read_calls(np.zeros_like(clip.audio), clip.sampling_rate)
    assert not read_calls(clip.audio[::-1].copy(), clip.sampling_rate)
