"""How large a request makes one run of the model, as far as that is known before its files are opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from phonofilm.generation.options import ClipOptions
from phonofilm.geometry import frames_for_seconds, parse_frame_rate
from phonofilm.serving.most_work import RunSize, check_run


def check_run_asked(options: ClipOptions, clip: RunSize, rate: Fraction, facts: Mapping[str, Any]) -> None:
    """Raises InputError for a clip of which one run is too much. What is asked for in seconds is made in parts."""
    own = RunSize(facts["width"], facts["height"], facts["num_frames"])
    if options.num_frames is None:
        seconds = options.part_seconds or float(own.num_frames / parse_frame_rate(facts["fps"]))
        part = frames_for_seconds(seconds, rate, facts["temporal_factor"])
        clip = replace(clip, num_frames=min(clip.num_frames, part))
    check_run(clip, own, "part_seconds" if options.num_frames is None else "num_frames")
