"""The measuring side reads world clips correctly from frames or sound alone, also when both went through a codec."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from phonofilm.nano.reading.frame_reader import FrameReading, colour_of, read_frames
from phonofilm.nano.world import HELD_OUT_SEED, SCENES, WorldClip, make_clip
from recipes.nano.measuring.audio_reader import AudioReading, read_voice_and_pitch

CLIPS = 16
FIRST = HELD_OUT_SEED + 5000


@dataclass(frozen=True)
class Read:
    """A world clip and what was read out of it."""

    clip: WorldClip
    picture: FrameReading
    sound: AudioReading


@pytest.fixture(scope="module", params=["clean", "degraded"])
def reads(request: pytest.FixtureRequest) -> list[Read]:
    clips = [make_clip(FIRST + i, scene=scene) for scene in SCENES for i in range(CLIPS)]
    noise = np.random.default_rng(0)
    return [_read(clip, noise if request.param == "degraded" else None) for clip in clips]


def _read(clip: WorldClip, noise: np.random.Generator | None) -> Read:
    frames, audio = clip.frames, clip.audio
    if noise is not None:
        smeared = blurred(mixed_with_neighbours(frames))
        frames = np.clip(smeared + noise.normal(0, 4, frames.shape) + 0.5, 0, 255).astype(np.uint8)
        audio = audio + noise.normal(0, 0.01, audio.shape).astype(np.float32)
    return Read(clip, read_frames(frames, clip.frame_rate), read_voice_and_pitch(audio, clip.sampling_rate))


def mixed_with_neighbours(frames: np.ndarray) -> np.ndarray:
    """Each frame with a fifth of the one before and of the one after, as an autoencoder's ghosts."""
    padded = np.concatenate([frames[:1], frames, frames[-1:]]).astype(np.float32)
    return 0.2 * padded[:-2] + 0.6 * padded[1:-1] + 0.2 * padded[2:]


def blurred(frames: np.ndarray, sigma: float = 0.7) -> np.ndarray:
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2)
    kernel /= kernel.sum()
    x = frames.astype(np.float32)
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pad, mode="edge"), 5, axis=axis)
        x = windows @ kernel.astype(np.float32)
    return x


def share(reads: list[Read], attribute: str) -> float:
    """Of the clips that have the attribute: how many were read as they are."""
    told = [r for r in reads if attribute in r.clip.attributes]
    seen = [
        getattr(r.picture, attribute) if hasattr(r.picture, attribute) else getattr(r.sound, attribute) for r in told
    ]
    return float(np.mean([r.clip.attributes[attribute] == s for r, s in zip(told, seen, strict=True)]))


@pytest.mark.parametrize(("attribute", "least"), [("scene", 0.98), ("colour", 0.98), ("size", 0.95)])
def test_what_is_seen(reads: list[Read], attribute: str, least: float) -> None:
    assert share(reads, attribute) >= least


@pytest.mark.parametrize(("attribute", "least"), [("vowel", 0.95), ("voice", 0.97)])
def test_what_is_heard(reads: list[Read], attribute: str, least: float) -> None:
    assert share(reads, attribute) >= least


def test_pitch_of_everything_but_voices(reads: list[Read]) -> None:
    assert share([r for r in reads if r.clip.attributes["scene"] != "face"], "pitch") >= 0.97


@pytest.mark.parametrize("scene", list(SCENES))
def test_visible_events_are_the_hidden_ones(reads: list[Read], scene: str) -> None:
    frame = 1 / 24
    found = right = true = seen = 0
    for read in (r for r in reads if r.clip.attributes["scene"] == scene):
        hidden, events = np.array([e.time for e in read.clip.events]), np.array(read.picture.events)
        # an event is visible when frames before and after it are
        visible = hidden[hidden < (len(read.clip.frames) - 3) * frame]
        distance = np.abs(hidden[:, None] - events[None]) if len(events) else np.full((len(hidden), 1), np.inf)
        found += int((distance.min(1)[: len(visible)] <= frame).sum())
        true += len(visible)
        right += int((distance.min(0) <= frame).sum()) if len(events) else 0
        seen += len(events)
    assert found / true >= 0.95
    assert right / seen >= 0.95


@pytest.mark.parametrize("background", ["night", "sky"])
def test_nothing_is_recognised_in_an_empty_picture(background: str) -> None:
    clip = next(c for c in (make_clip(s) for s in range(100)) if c.attributes["background"] == background)
    wall = np.repeat(clip.frames[:1, :, :1], 64, axis=2)
    sight = read_frames(np.repeat(wall, 49, axis=0), clip.frame_rate)
    assert (sight.scene, sight.colour, sight.events) == ("none", "none", ())


def test_a_still_picture_has_no_events() -> None:
    for scene in ("face", "lamp", "xylophone"):
        clip = make_clip(3, scene=scene)
        sight = read_frames(np.repeat(clip.frames[:1], 49, axis=0), clip.frame_rate)
        assert sight.scene == scene
        assert sight.events == ()


@pytest.mark.filterwarnings("error")
def test_whatever_a_model_makes_is_read_without_complaint() -> None:
    rng = np.random.default_rng(1)
    clips = [make_clip(seed) for seed in range(8)]
    for first, second in itertools.pairwise(clips):
        weight = rng.uniform(0, 1, (49, 1, 1, 1))
        mixed = first.frames * weight + second.frames * (1 - weight)
        rolled = np.stack([np.roll(frame, 7 * i, axis=1) for i, frame in enumerate(first.frames)])
        noise = rng.normal(128, 60, first.frames.shape)
        for frames in (mixed, rolled, noise, np.roll(mixed, 20, axis=1), mixed[::-1]):
            sight = read_frames(np.clip(frames, 0, 255).astype(np.uint8), first.frame_rate)
            assert all(0 <= time <= 49 / 24 for time in sight.events)
        read_voice_and_pitch(
            (first.audio * rng.normal(0, 0.3, first.audio.shape)).astype(np.float32), first.sampling_rate
        )


def test_silence_is_nothing() -> None:
    assert read_voice_and_pitch(np.zeros(32000, np.float32), 16000) == AudioReading("none", "none", "none")


def test_an_object_that_fades_loses_its_colour() -> None:
    clip = make_clip(1, scene="ball")
    grey = np.repeat(clip.frames[-1:].mean(-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    assert colour_of(clip.frames[-1:]) == clip.attributes["colour"]
    assert colour_of(grey) == "none"
