"""How much of a clip the audio-visual metrics look at, and its frames at another rate, as the published code takes them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.frame_rates import frames_of_filter

# The published runs look at 7.9 s of clips of 8 s.
_LEFT_OUT = 0.1


def looked_at(clip: ClipFacts) -> float:
    """Seconds: the clip's length in whole seconds, less 0.1."""
    return round(len(clip.frames) / float(clip.frame_rate)) - _LEFT_OUT


def frames_at(clip: ClipFacts, rate: Fraction, count: int) -> NDArray[np.uint8]:
    """The first `count` frames at `rate`; the last one repeated where the clip ends before."""
    chosen = frames_of_filter(len(clip.frames), clip.frame_rate, rate, count) or [0]
    return clip.frames[chosen + chosen[-1:] * (count - len(chosen))]
