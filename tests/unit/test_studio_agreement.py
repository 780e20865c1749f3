"""What a clip's timeline says of sound and picture: the embedded model's own events, and sentences that count the marks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.media import Clip, save_clip
from phonofilm.media.onsets import onset_times
from phonofilm.nano.world import make_clip
from phonofilm.serving.studio.agreement import marks_in_words, sound_agreement


@pytest.mark.parametrize("late", [0.0, 0.125])
def test_clips_of_its_world_have_their_own_marks_and_a_lag(tmp_path: Path, late: float) -> None:
    """Two seconds are too short for the lag of other clips."""
    world = make_clip(10_000_003, scene="lamp")
    sound = np.pad(world.audio, (round(late * world.sampling_rate), 0))[: len(world.audio)]
    clip = Clip(world.frames, world.frame_rate, sound[None], world.sampling_rate, {})
    heard = onset_times(clip.audio, world.sampling_rate).tolist()
    found = sound_agreement(ClipFacts(save_clip(clip, tmp_path / "a.mp4"), "a"), heard, True)
    assert found["lag"]["milliseconds"] == pytest.approx(1000 * late, abs=45)
    shown = (found["seen"], heard, float(1 / world.frame_rate))
    assert found["lag"]["reason"] == marks_in_words(*shown), "the sentence counts the marks that are shown"
    assert ("0 of" in found["lag"]["reason"]) == (late > 0)


def test_the_sentence_counts_the_marks() -> None:
    frame = float(Fraction(1, 24))
    assert (
        marks_in_words([0.5, 1.0], [0.5, 1.02, 1.5], frame)
        == "2 of 3 sounds fall within one frame (42 ms) of what is seen"
    )
    assert marks_in_words([0.5], [0.52], frame).startswith("the one sound falls within one frame")
    assert marks_in_words([0.5], [0.6], frame).startswith("the one sound does not fall within")
    assert marks_in_words([], [0.5, 0.7], frame) == "nothing is seen to strike, land or stop; 2 sounds begin"
    assert marks_in_words([0.5, 0.7], [], frame) == "no sound begins in this clip; 2 events are seen"
