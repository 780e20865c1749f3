"""Clips that a session makes for a measurement, each kept in a folder under the hash of all that decides it, and the command
that measures them. A measurement that was stopped goes on where it stopped; a changed setting makes only what it changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phonofilm import Clip, load
from phonofilm.evaluation.sync import Matching, match, summarise
from phonofilm.files import replacing
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.provenance import clip_metadata
from phonofilm.generation.session import Session
from phonofilm.media.onsets import onset_times
from phonofilm.nano.reading.frame_reader import read_frames
from phonofilm.nano.world import HELD_OUT_SEED, WorldClip, make_clip
from phonofilm.units import format_duration

logger = logging.getLogger(__name__)
# What a session finds out about its machine once weights are loaded; it changes no clip by more than rounding.
FOUND_WHEN_LOADED = ("offload", "vae_tiling", "attention")
Figures = dict[str, Any]
Measurement = Callable[["SessionClips", int], Figures]


@dataclass(frozen=True)
class Sampling:
    """How clips are sampled, in the words of `Session.generate`; None leaves a setting to the model."""

    steps: int | None = None
    guidance_scale: float | None = None
    modality_scale: float | None = None
    video_shift: float | None = None
    audio_shift: float | None = None


@dataclass(frozen=True)
class Request:
    """What a clip is made from, in the words of `Session.generate`. Sounds are float32 [channels, samples] and their rate."""

    prompt: str
    seed: int
    image: Image.Image | None = None
    keyframes: Mapping[float, Image.Image] = field(default_factory=dict)
    audio: tuple[NDArray[np.float32], int] | None = None
    voice: tuple[NDArray[np.float32], int] | None = None
    size: str | None = None
    seconds: float | None = None


class SessionClips:
    """Makes clips, or reads those that stand in `folder`."""

    def __init__(self, session: Session, folder: Path, sampling: Sampling) -> None:
        self._session = session
        self._folder = folder
        self._sampling = sampling

    def plan(self, request: Request) -> ClipPlan:
        words = {name: getattr(request, name) for name in Request.__dataclass_fields__}
        return self._session.plan(**words, **vars(self._sampling))

    def make(self, name: str, requests: Sequence[Request]) -> list[Clip]:
        """One clip per request; `name` says in the log which row of the measurement they are."""
        clips, made, began = [], 0, time.monotonic()
        for number, request in enumerate(requests, 1):
            plan = self.plan(request)
            file = self._folder / f"{self._digest(plan)}.npz"
            if not file.exists():
                _keep(self._session.make(plan), file)
                made += 1
                left = (time.monotonic() - began) / made * (len(requests) - number)
                logger.info("%s: %d of %d, %s left", name, number, len(requests), format_duration(left))
            clips.append(_read(file, plan))
        return clips

    def _digest(self, plan: ClipPlan) -> str:
        """Of what the clip's metadata would say: its settings, its inputs' content, and the checkpoint's fingerprint."""
        facts = clip_metadata(plan, self._session.checkpoint, self._session.placement)
        decides = {name: fact for name, fact in facts.items() if name not in FOUND_WHEN_LOADED}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def held_out(scene: str, count: int) -> list[WorldClip]:
    """World clips of a scene that no training saw."""
    return [make_clip(HELD_OUT_SEED + index, scene=scene) for index in range(count)]


def first_frame(world: WorldClip) -> Image.Image:
    return Image.fromarray(world.frames[0])


def sound(clip: Clip) -> tuple[NDArray[np.float32], int]:
    """Float32 [channels, samples], and the samples per second."""
    assert clip.audio is not None
    assert clip.sampling_rate is not None
    return clip.audio, clip.sampling_rate


def onsets(clip: Clip) -> list[float]:
    """The seconds at which sounds begin."""
    return [float(time) for time in onset_times(*sound(clip))]


def matched(picture: Clip, heard: Clip | None = None) -> Matching:
    """The events that are seen in a clip and the sounds that begin in it, or in `heard`, paired."""
    return match(read_frames(picture.frames, picture.frame_rate).events, onsets(picture if heard is None else heard))


def sync_figures(matchings: Sequence[Matching], frame_seconds: float) -> Figures:
    """Per cent of events with their sound within a frame, with its 95 % interval; lags in ms, positive for a late sound."""
    found = summarise(matchings, frame_seconds)
    return {
        "events": found.events,
        "within a frame": percent(found.within),
        "interval": [percent(found.within_low), percent(found.within_high)],
        "half within ms": _rounded(found.median_ms),
        "median lag ms": _rounded(found.offset_ms),
        "without a sound": percent(found.misses),
    }


def percent(share: float) -> float | None:
    """A share in per cent; None for NaN, the share of nothing."""
    return _rounded(100 * share)


def run(description: str | None, name: str, usual: int, measure: Measurement) -> None:
    """The command of a measurement: make its clips, write DIR/NAME.json and print it. `usual`: how many clips by default."""
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where clips and figures are kept"
    )
    parser.add_argument("-n", "--clips", type=int, default=usual, help=f"clips of each row; {usual}")
    parser.add_argument("-m", "--model", default="nano")
    parser.add_argument("--steps", type=int)
    for option in ("guidance-scale", "modality-scale", "video-shift", "audio-shift"):
        parser.add_argument(f"--{option}", type=float)
    given = parser.parse_args()
    sampling = Sampling(given.steps, given.guidance_scale, given.modality_scale, given.video_shift, given.audio_shift)
    with load(given.model, device="cpu") as session:
        figures = measure(SessionClips(session, given.output / "clips", sampling), given.clips)
    settings = {key: value for key, value in vars(sampling).items() if value is not None}
    text = json.dumps({"clips": given.clips, "settings": settings, **figures}, indent=2)
    with replacing(given.output / f"{name}.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    sys.stdout.write(text + "\n")


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 1)


def _keep(clip: Clip, file: Path) -> None:
    audio, rate = sound(clip)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, frames=clip.frames, audio=audio, rate=rate)


def _read(file: Path, plan: ClipPlan) -> Clip:
    with np.load(file) as kept:
        return Clip(kept["frames"], plan.sampling.task.geometry.frame_rate, kept["audio"], int(kept["rate"]))
