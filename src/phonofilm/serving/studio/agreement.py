"""What is seen to happen in a clip, and how well the sound agrees with it: the marks of a timeline, its lag and its sentence.

The sentence counts the marks that are shown. Clips of the embedded model's world are read by its own event readers, as
`phonofilm nano measure` does; others by motion that stops, with the lag of `phonofilm evaluate` and its test against chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.nano_sync import LARGEST
from phonofilm.evaluation.metrics.onset_lag import OnsetLag
from phonofilm.evaluation.sync import match
from phonofilm.nano.reading.frame_reader import read_frames

EMBEDDED = "nano"
SEEN_SHARE = 0.25  # of the strongest impact: below, nothing is marked
SEEN_APART = 0.12  # seconds
FIRST_SEEN = 0.1  # seconds: that a picture begins is no event
NEEDS_EVALUATE = "seeing what strikes needs the extra evaluate: pip install 'phonofilm[evaluate]'"


def sound_agreement(facts: ClipFacts, heard: Sequence[float], is_embedded: bool) -> dict[str, Any]:
    """seen, impact and lag of a timeline. heard: onsets in seconds; is_embedded: the embedded model made the clip.

    lag: milliseconds where there is a figure, and in `reason` what the marks say, or why there is none.
    """
    has_flow = find_spec("cv2") is not None
    impact = _impact(facts) if has_flow else None
    curve, figure, significance = None, None, None
    if has_flow and facts.has_sound:
        row = OnsetLag(Setup()).measure(facts)
        figure, significance = row.values.get("lag_ms"), row.detail.get("p")
        curve = _curve(row.series)
    events = _events(facts) if is_embedded or figure is None else []
    seen = events or (None if impact is None else _peaks(impact, float(facts.frame_rate)))
    frame = float(1 / facts.frame_rate)
    reason = None
    if events:
        lags = match(events, heard).lags
        figure = float(np.median(lags)) * 1000 if lags else None
        significance, reason = None, marks_in_words(events, heard, frame)
    elif seen is None:
        reason = NEEDS_EVALUATE
    elif figure is None:
        reason = marks_in_words(seen, heard, frame)
    if not facts.has_sound:
        reason = "the clip has no sound"
    return {
        "seen": None if seen is None else [round(one, 4) for one in seen],
        "impact": None if impact is None else np.round(impact, 3).tolist(),
        "lag": {
            "milliseconds": None if figure is None else round(float(figure), 1),
            "significance": significance,
            "reason": reason,
            "curve": curve,
        },
    }


def marks_in_words(seen: Sequence[float], heard: Sequence[float], frame: float) -> str:
    """How many of the sounds begin within one frame of what is seen to happen, as a clause."""
    if not heard:
        return "no sound begins in this clip" + (f"; {len(seen)} events are seen" if len(seen) > 1 else "")
    if not seen:
        return f"nothing is seen to strike, land or stop; {len(heard)} sounds begin"
    within = sum(abs(lag) <= frame for lag in match(seen, heard).lags)
    sounds = (
        f"{within} of {len(heard)} sounds fall"
        if len(heard) > 1
        else f"the one sound {'falls' if within else 'does not fall'}"
    )
    return f"{sounds} within one frame ({frame * 1000:.0f} ms) of what is seen"


def _events(facts: ClipFacts) -> list[float]:
    """When something happens in a clip of the embedded model's world; empty where that is not recognised."""
    height, width = facts.size
    if height != width or height > LARGEST:
        return []
    return list(read_frames(facts.frames, facts.frame_rate).events)


def _curve(series: Any) -> dict[str, Any] | None:
    if "lags" not in series:
        return None
    return {
        "seconds": [round(float(one), 3) for one in series["lags"]],
        "correlation": [round(float(one), 4) for one in series["correlation"]],
    }


def _impact(facts: ClipFacts) -> NDArray[np.float64]:
    """[frames], 0 to 1: how much motion stops at each frame."""
    from phonofilm.evaluation.flow import directograms
    from phonofilm.evaluation.metrics.onset_lag import impacts_of

    grey = facts.plain_grey
    result = np.zeros(len(grey))
    if len(grey) > 2:
        result[1:-1] = impacts_of(directograms(grey))
    result[: round(FIRST_SEEN * float(facts.frame_rate))] = 0.0
    peak = float(result.max(initial=0.0))
    return result / peak if peak > 0 else result


def _peaks(impact: NDArray[np.float64], fps: float) -> list[float]:
    """Seconds at which an impact is the largest nearby."""
    reach = max(1, round(SEEN_APART * fps))
    return [
        round(index / fps, 4)
        for index, value in enumerate(impact)
        if value >= SEEN_SHARE and value == impact[max(0, index - reach) : index + reach + 1].max()
    ]
