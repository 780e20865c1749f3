"""The embedded model's own events: whether what its world shows is heard within a frame. The figures of `nano measure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.sync import LagSummary, Matching, match, summarise
from phonofilm.media.onsets import onset_times
from phonofilm.nano.reading.frame_reader import UNRECOGNISED, read_frames

RATE = 16_000  # the embedded model's own
SMALLEST, LARGEST = 16, 256  # pixels: the world is a small square picture
SHIFTS = 20


class NanoSync(Metric):
    """The share of visible events with a sound within one frame, and the lags, on clips of the embedded model's world.

    Clips are pooled, not averaged, as `phonofilm nano measure` does. Both profiles are the same.
    """

    name = "nano_sync"
    title = "Events of the embedded model"
    figures = (
        Figure("within", "Events heard within a frame", better="higher", chance="chance"),
        Figure("chance", "The same with shifted sound"),
        Figure("median_ms", "Median lag either way", "ms", "lower"),
        Figure("offset_ms", "Median lag", "ms"),
        Figure("misses", "Events without a sound", better="lower"),
        Figure("extras", "Sounds without an event, per event", better="lower"),
    )
    source = "docs/measuring.md"
    pooling = "clips"

    @property
    def needs(self) -> Requirements:
        return Requirements(picture=True, sound=True)

    def measure(self, clip: ClipFacts) -> Row:
        height, width = clip.size
        if height != width or not SMALLEST <= height <= LARGEST:
            return not_applicable(f"{width}x{height} is no picture of the embedded model's world")
        reading = read_frames(clip.frames, clip.frame_rate)
        if reading.scene == UNRECOGNISED:
            return not_applicable("no scene of the embedded model's world is recognised")
        onsets = onset_times(clip.aligned_wave(RATE), RATE).tolist()
        frame, seconds = float(1 / clip.frame_rate), float(len(clip.frames) / clip.frame_rate)
        if not reading.events:
            return not_applicable(f"nothing visibly happens in this {reading.scene} clip")
        matching = match(reading.events, onsets)
        values = _figures(summarise([matching], frame))
        values["chance"] = _chance(reading.events, onsets, seconds, frame)
        detail = {
            "scene": reading.scene,
            "colour": reading.colour,
            "events": matching.events,
            "onsets": matching.onsets,
        }
        series = {
            "lags": list(matching.lags),
            "counts": [matching.events, matching.onsets],
            "frame_seconds": [frame],
            "event_times": list(reading.events),
            "onset_times": onsets,
        }
        return measured(values, detail, series)

    def aggregate(self, rows: Sequence[Row]) -> Mapping[str, float]:
        matchings = [
            Matching(int(row.series["counts"][0]), int(row.series["counts"][1]), tuple(row.series["lags"]))
            for row in rows
        ]
        events = np.array([matching.events for matching in matchings])
        chances = np.array([row.values["chance"] for row in rows])
        values = _figures(summarise(matchings, float(rows[0].series["frame_seconds"][0])))
        return {**values, "chance": float((chances * events).sum() / events.sum())}


def _figures(summary: LagSummary) -> dict[str, float]:
    """Those that exist: without a pair there are no lags."""
    names = ("within", "median_ms", "offset_ms", "misses", "extras")
    return {name: value for name in names if np.isfinite(value := float(getattr(summary, name)))}


def _chance(events: Sequence[float], onsets: Sequence[float], seconds: float, frame: float) -> float:
    """`within` of the clip's own sound turned round by 20 amounts, all of them farther than a match reaches."""
    shares = []
    for shift in np.linspace(0.25, 0.75, SHIFTS) * seconds:
        turned = [(time + float(shift)) % seconds for time in onsets]
        shares.append(summarise([match(events, turned)], frame).within)
    return float(np.mean(shares))
