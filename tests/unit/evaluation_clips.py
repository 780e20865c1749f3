"""Clips that metrics are tried on: a ball that lands with a knock, moved sound, still pictures, silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Profile, Setup
from phonofilm.evaluation.rows import Row
from phonofilm.media import Clip, save_clip
from phonofilm.nano.world import make_clip
from phonofilm.nano.world_files import as_clip


def ball(seed: int = 4, num_frames: int = 193, size: int = 96) -> Clip:
    """Eight seconds of a bouncing ball, each landing a knock."""
    return as_clip(make_clip(seed, scene="ball", size=size, num_frames=num_frames))


def sound_moved(clip: Clip, seconds: float) -> Clip:
    """The same clip with its sound later by `seconds` (earlier where negative), as long as before."""
    assert clip.audio is not None
    assert clip.sampling_rate is not None
    samples, length = round(seconds * clip.sampling_rate), clip.audio.shape[1]
    moved = np.pad(clip.audio, ((0, 0), (max(0, samples), max(0, -samples))))
    return replace(clip, audio=moved[:, :length] if samples > 0 else moved[:, -samples : length - samples])


def shown(path: Path, frames: np.ndarray, wave: np.ndarray | None, rate: int = 16_000) -> Path:
    """A file of frames [f, h, w, 3] at 24 a second and mono sound [samples]."""
    audio = None if wave is None else wave[None].astype(np.float32)
    save_clip(Clip(frames, 24, audio, None if wave is None else rate), path)
    return path


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))


def row(metric: str, path: Path, profile: Profile = "compat") -> Row:
    (one,) = build([metric], Setup(profile))
    return one.measure(ClipFacts(path, path.stem))
