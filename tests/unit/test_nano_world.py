"""The procedural world: deterministic, its events seen and heard at the same time, its captions silent about timing."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from phonofilm.errors import InputError
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, make_clip
from phonofilm.nano.world.palette import COLOURS

FRAME = 1 / 24
TIMING_WORDS = re.compile(
    r"\b(second|seconds|time|times|once|twice|slow|slowly|fast|quick|quickly|often|regular|regularly|then|after|"
    r"first|last|steady|skipping|galloping|rhythm|start|end|\d+)\b",
    re.IGNORECASE,
)


def onsets(audio: np.ndarray, rate: int) -> np.ndarray:
    """Times where the level, in 5 ms windows, jumps well above the 30 ms before."""
    hop = rate // 200
    level = np.abs(audio[: len(audio) // hop * hop].reshape(-1, hop)).max(1)
    before = np.array([level[max(0, i - 6) : i].min(initial=0.0) for i in range(len(level))])
    rising = level > before * 2 + 0.02
    return np.flatnonzero(rising & ~np.roll(rising, 1)) * hop / rate


@pytest.mark.parametrize("scene", SCENES)
def test_a_seed_decides_the_whole_clip(scene: str) -> None:
    one, two, other = make_clip(3, scene=scene), make_clip(3, scene=scene), make_clip(4, scene=scene)
    assert np.array_equal(one.frames, two.frames)
    assert np.array_equal(one.audio, two.audio)
    assert (one.caption, one.events, one.attributes) == (two.caption, two.events, two.attributes)
    assert not np.array_equal(one.frames, other.frames)


@pytest.mark.parametrize(
    ("size", "frames", "rate", "sampling"), [(64, 49, Fraction(24), 16000), (32, 21, Fraction(30000, 1001), 8000)]
)
@pytest.mark.parametrize("scene", SCENES)
def test_shapes_and_levels_follow_the_request(
    scene: str, size: int, frames: int, rate: Fraction, sampling: int
) -> None:
    clip = make_clip(11, scene=scene, size=size, num_frames=frames, frame_rate=rate, sampling_rate=sampling)
    assert clip.frames.shape == (frames, size, size, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.audio.shape == (int(sampling * frames / rate),)
    assert clip.audio.dtype == np.float32
    assert 0.05 < np.abs(clip.audio).max() < 0.9


@pytest.mark.parametrize("scene", SCENES)
def test_every_event_has_an_onset_within_a_frame(scene: str) -> None:
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 12):
        clip = make_clip(seed, scene=scene)
        assert clip.events
        heard = onsets(clip.audio, clip.sampling_rate)
        for event in clip.events:
            assert np.abs(heard - event.time).min() <= FRAME


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_is_heard_before_the_first_event(scene: str) -> None:
    for seed in range(12):
        clip = make_clip(seed, scene=scene)
        first = int(clip.events[0].time * clip.sampling_rate)
        assert clip.events[0].time >= 0.1
        assert not clip.audio[: first - 1].any()


def test_the_ball_is_lowest_at_its_impacts() -> None:
    for seed in range(12):
        clip = make_clip(seed, scene="ball")
        tint = np.array(COLOURS[clip.attributes["colour"]], np.float32)
        mask = np.abs(clip.frames.astype(np.float32) - tint).sum(-1) < 60
        rows = np.arange(64)[None, :, None]
        centre = (mask * rows).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)
        for event in clip.events:
            near = slice(max(round(event.time * 24) - 3, 0), round(event.time * 24) + 4)
            lowest = (near.start + int(np.argmax(centre[near]))) * FRAME
            assert abs(lowest - event.time) <= 1.5 * FRAME


def test_lamp_and_mouth_change_the_picture_where_the_sound_starts() -> None:
    for scene in ("lamp", "face"):
        for seed in range(8):
            clip = make_clip(seed, scene=scene)
            change = np.abs(np.diff(clip.frames.astype(np.int16), axis=0)).mean((1, 2, 3))
            for event in clip.events:
                before = int(np.floor(event.time * 24))
                assert change[before : before + 2].max() > 5 * change[: int(clip.events[0].time * 24) - 1].max(
                    initial=0.01
                )


def test_captions_name_what_is_there_and_never_when() -> None:
    wordings = set()
    for seed in range(200):
        clip = make_clip(seed, num_frames=5, size=16)
        assert clip.attributes["colour"] in clip.caption
        if "vowel" in clip.attributes:
            assert f'"{clip.attributes["vowel"]}"' in clip.caption
        assert not TIMING_WORDS.search(clip.caption), clip.caption
        assert "{" not in clip.caption
        wordings.add(re.sub("|".join(COLOURS), "", clip.caption))
    assert len(wordings) > 100


def test_all_scenes_appear_and_an_unknown_one_is_refused() -> None:
    assert {make_clip(seed, num_frames=1, size=16).attributes["scene"] for seed in range(40)} == set(SCENES)
    with pytest.raises(InputError, match="use one of ball"):
        make_clip(0, scene="submarine")


def test_a_ball_comes_to_rest_in_a_long_clip() -> None:
    """Each bounce is shorter than the one before, so without a rest there would be no end of them."""
    clip = make_clip(2, scene="ball", size=16, num_frames=24 * 30)
    assert 5 < len(clip.events) < 100
    assert clip.events[-1].time < 29
