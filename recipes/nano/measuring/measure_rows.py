"""What was read in a set of clips, as the numbers of one row: event lags, and attributes as the prompts have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phonofilm.evaluation.sync import LagSummary, Matching, match, shuffled_pairs, summarise
from phonofilm.media.onsets import onset_times
from phonofilm.nano.reading.frame_reader import FrameReading, colour_of, read_frames
from phonofilm.nano.world import WorldClip
from recipes.nano.measuring.audio_reader import AudioReading, read_voice_and_pitch
from recipes.nano.measuring.generated_clips import GeneratedClip

ATTRIBUTES = ("scene", "colour", "last_colour", "size", "pitch", "vowel", "voice")


@dataclass(frozen=True)
class Reading:
    """A clip as read from its frames and its sound alone. last_colour: of the last frame. onsets: seconds."""

    picture: FrameReading
    last_colour: str
    sound: AudioReading
    onsets: tuple[float, ...]


@dataclass(frozen=True)
class Figures:
    """sync: see `LagSummary`. adherence: the share of clips in which an attribute was read as the prompt has it, over the
    clips that have it; empty for shuffled pairs. lags_ms: every pair's, for drawing."""

    sync: LagSummary
    adherence: Mapping[str, float]
    lags_ms: tuple[float, ...]


@dataclass(frozen=True)
class MeasureRow:
    """One line of the report. scenes: the same figures by the prompt's scene. seconds_per_clip: to make, in batches."""

    name: str
    overall: Figures
    scenes: Mapping[str, Figures]
    seconds_per_clip: float | None = None


def read(shown: GeneratedClip, truth: WorldClip) -> Reading:
    """Read a clip's frames and sound. Of the truth only the clip's rates are used."""
    onsets = onset_times(shown.audio, truth.sampling_rate)
    return Reading(
        read_frames(shown.frames, truth.frame_rate),
        colour_of(shown.frames[-1:]),
        read_voice_and_pitch(shown.audio, truth.sampling_rate),
        tuple(float(t) for t in onsets),
    )


def own_row(
    name: str, readings: Sequence[Reading], truths: Sequence[WorldClip], seconds: float | None = None
) -> MeasureRow:
    """Every picture with its own sound."""
    return _row(name, readings, truths, [(i, i) for i in range(len(readings))], adherence=True, seconds=seconds)


def shuffled_row(name: str, readings: Sequence[Reading], truths: Sequence[WorldClip]) -> MeasureRow:
    """Every picture with the sounds of other clips of the same scene."""
    pairs = shuffled_pairs([_scene(truth) for truth in truths])
    return _row(name, readings, truths, pairs, adherence=False)


def _row(
    name: str,
    readings: Sequence[Reading],
    truths: Sequence[WorldClip],
    pairs: Sequence[tuple[int, int]],
    adherence: bool,
    seconds: float | None = None,
) -> MeasureRow:
    matchings = [match(readings[picture].picture.events, readings[sound].onsets) for picture, sound in pairs]

    def figures(scene: str | None) -> Figures:
        mine = [n for n, (picture, _) in enumerate(pairs) if scene in (None, _scene(truths[picture]))]
        chosen: list[Matching] = [matchings[n] for n in mine]
        own = [(readings[pairs[n][0]], truths[pairs[n][0]]) for n in mine] if adherence else []
        lags = tuple(round(lag * 1000, 2) for matching in chosen for lag in matching.lags)
        return Figures(summarise(chosen, float(1 / truths[0].frame_rate)), _adherence(own), lags)

    scenes = dict.fromkeys(_scene(truth) for truth in truths)
    return MeasureRow(name, figures(None), {scene: figures(scene) for scene in scenes}, seconds)


def _adherence(clips: Sequence[tuple[Reading, WorldClip]]) -> dict[str, float]:
    shares = {}
    for attribute in ATTRIBUTES:
        checks = [_as_prompted(reading, truth, attribute) for reading, truth in clips]
        counted = [check for check in checks if check is not None]
        if counted:
            shares[attribute] = float(np.mean(counted))
    return shares


def _as_prompted(reading: Reading, truth: WorldClip, attribute: str) -> bool | None:
    """Whether the attribute came out as the prompt has it; None if the prompt says nothing of it.

    A face's pitch is its voice, which is counted under that name.
    """
    if attribute == "last_colour":
        return reading.last_colour == truth.attributes["colour"]
    if attribute not in truth.attributes or (attribute == "pitch" and "voice" in truth.attributes):
        return None
    source: FrameReading | AudioReading = reading.picture if hasattr(reading.picture, attribute) else reading.sound
    return bool(getattr(source, attribute) == truth.attributes[attribute])


def _scene(truth: WorldClip) -> str:
    return truth.attributes["scene"]
