"""A clip's offset between sound and picture as a finding: its own, or that of its source's clips. Estimated in offset.py."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.findings import Finding
from phonofilm.data.manifest import Item
from phonofilm.data.offset import Beginnings, Offset, begins_to_be_seen
from phonofilm.data.probe import Facts
from phonofilm.data.window_reading import separate_sound
from phonofilm.media.onsets import onset_times
from phonofilm.media.sound import read_sound

KIND = "offset"
LISTENED = Fraction(300)  # seconds from the beginning: a constant offset is the same later on
TOLERATED = Fraction(20, 1000)  # seconds, beside one frame


def read_beginnings(item: Item, facts: Facts, times: Sequence[Fraction], frames: NDArray[np.float32]) -> Beginnings:
    """What begins to be seen and heard in a clip with sound, of which these are the thumbnails."""
    if item.audio is not None:
        wave, sampling_rate = separate_sound(item.audio, Fraction(0), LISTENED)
    else:
        sound = read_sound(item.file, origin=facts.start, seconds=LISTENED, mono=True)
        assert sound is not None
        wave, sampling_rate = sound
    until = int(np.searchsorted(np.asarray(times, float), float(LISTENED)))
    seen = begins_to_be_seen([float(time) for time in times[:until]], frames[:until])
    seconds = float(min(LISTENED, facts.seconds))
    return Beginnings(seen, onset_times(wave, sampling_rate), seconds, float(1 / facts.rate))


def is_tolerated(offset: Offset, frame_rate: Fraction) -> bool:
    """Whether a known offset is within a frame and 20 ms."""
    return offset.seconds is not None and abs(offset.seconds) <= 1 / frame_rate + TOLERATED


def pooled_finding(clip: str, own: Beginnings, source: Offset, clips: int, frame_rate: Fraction) -> Finding | None:
    """What `clips` clips of one source say together about one of them that does not show its offset by itself.

    An error that can be fixed where the clip's own beginnings agree with it, a warning where it has too few to agree; None
    where they contradict it, where the source's offset is unknown, and where it is too small to matter.
    """
    if source.seconds is None or is_tolerated(source, frame_rate):
        return None
    side = "late" if source.seconds > 0 else "early"
    message = (
        f"the sound of {clips} clips of its source is {abs(source.seconds) * 1000:.0f} ms {side} for what is seen (confidence "
        f"{source.confidence:.1%}: {source.pairs} beginnings agree)"
    )
    together, apart = own.pairs(source.seconds), own.pairs(0.0)
    if apart > together:
        return None
    if together:
        return Finding("error", clip, KIND, f"{message}, and {together} of its own", source.seconds, fixable=True)
    return Finding("warning", clip, KIND, f"{message}; it shows nothing of its own", source.seconds)


def offset_findings(clip: str, offset: Offset, frame_rate: Fraction) -> list[Finding]:
    """An error for an offset that is known and larger than a frame and 20 ms, otherwise a note that says what is known."""
    beginnings = f"{offset.seen} beginnings are seen, {offset.heard} heard, {offset.pairs} agree"
    if offset.seconds is None:
        return [Finding("note", clip, KIND, f"offset unknown: {beginnings}, which is too few or fits several offsets")]
    sure = f"confidence {offset.confidence:.1%}: {beginnings}"
    if is_tolerated(offset, frame_rate):
        return [Finding("note", clip, KIND, f"offset {offset.seconds * 1000:+.0f} ms ({sure})", offset.seconds)]
    side = "late" if offset.seconds > 0 else "early"
    message = f"the sound is {abs(offset.seconds) * 1000:.0f} ms {side} for what is seen ({sure})"
    return [Finding("error", clip, KIND, message, offset.seconds, fixable=True)]
