"""What a clip's settings differ in from those that its model uses when none are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from phonofilm.errors import InputError
from phonofilm.geometry import frames_for_seconds, parse_frame_rate

# Settings that the page calls otherwise than a request does.
_CALLED = {"modality_scale": "picture and sound together"}


def differing_settings(options: Mapping[str, Any], facts: Mapping[str, Any] | None) -> list[str]:
    """In words, sorted: "guidance scale 3", "5.04 s". facts: of the model, once a worker has opened it."""
    facts = facts or {}
    defaults: dict[str, Any] = dict(facts.get("defaults", {}))
    used = {name: value for name, value in options.items() if name != "prompt"}
    if used.get("audio_guidance_scale") == used.get("guidance_scale"):
        used.pop("audio_guidance_scale", None)  # it follows the other
    seconds = _seconds(used, facts)
    found = [
        f"{_CALLED.get(name, name.replace('_', ' '))} {in_words(value)}"
        for name, value in used.items()
        if not (name in defaults and _same(value, defaults[name]))
    ]
    return sorted([*found, *([] if seconds is None else [f"{seconds:.4g} s"])])


def in_words(value: Any) -> str:
    """A setting's value as people write it: 3.5, both, 1 to 2.042."""
    if isinstance(value, list):
        return (" to " if len(value) == 2 else ", ").join(map(in_words, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(used: dict[str, Any], facts: Mapping[str, Any]) -> float | None:
    """Takes the length out of the settings: as seconds, where it is not the model's own."""
    rate = parse_frame_rate(str(used.get("fps") or facts.get("fps", "24")))
    own = facts.get("num_frames")
    frames, seconds = used.pop("num_frames", None), used.pop("seconds", None)
    if frames is None and seconds is None:
        return None
    if frames is None:
        try:
            frames = frames_for_seconds(float(seconds), rate, facts.get("temporal_factor", 4))
        except InputError:  # of a clip that was brought in
            return float(seconds)
    return None if frames == own else float(frames / rate)


def _same(one: Any, other: Any) -> bool:
    """Whether two values mean the same: 24 and "24", 1.0 and "1"."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return str(one) == str(other)
