"""A clip's offset between sound and picture, read from its file and told as a finding. The estimate itself: offset.py."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.findings import Finding
from phonofilm.data.manifest import Item
from phonofilm.data.offset import Offset, begins_to_be_seen, estimate_offset
from phonofilm.data.probe import Facts
from phonofilm.data.reading import separate_sound
from phonofilm.media.onsets import onset_times
from phonofilm.media.sound import read_sound

KIND = "offset"
LISTENED = Fraction(300)  # seconds from the beginning: a constant offset is the same later on
TOLERATED = Fraction(20, 1000)  # seconds, beside one frame


def measured_offset(item: Item, facts: Facts, times: Sequence[Fraction], frames: NDArray[np.float32]) -> Offset:
    """The offset of a clip with sound, of which these are the thumbnails."""
    if item.audio is not None:
        wave, sampling_rate = separate_sound(item.audio, Fraction(0), LISTENED)
    else:
        heard = read_sound(item.file, origin=facts.start, seconds=LISTENED, mono=True)
        assert heard is not None
        wave, sampling_rate = heard
    until = int(np.searchsorted(np.asarray(times, float), float(LISTENED)))
    seen = begins_to_be_seen([float(time) for time in times[:until]], frames[:until])
    seconds = float(min(LISTENED, facts.seconds))
    return estimate_offset(seen, onset_times(wave, sampling_rate), seconds, float(1 / facts.rate))


def offset_findings(clip: str, offset: Offset, frame_rate: Fraction) -> list[Finding]:
    """An error for an offset that is known and larger than a frame and 20 ms, otherwise a note that says what is known."""
    beginnings = f"{offset.seen} beginnings are seen, {offset.heard} heard, {offset.pairs} agree"
    if offset.seconds is None:
        return [Finding("note", clip, KIND, f"offset unknown: {beginnings}, which is too few or fits several offsets")]
    sure = f"confidence {offset.confidence:.1%}: {beginnings}"
    if abs(offset.seconds) <= 1 / frame_rate + TOLERATED:
        return [Finding("note", clip, KIND, f"offset {offset.seconds * 1000:+.0f} ms ({sure})", offset.seconds)]
    side = "late" if offset.seconds > 0 else "early"
    message = f"the sound is {abs(offset.seconds) * 1000:.0f} ms {side} for what is seen ({sure})"
    return [Finding("error", clip, KIND, message, offset.seconds, fixable=True)]
