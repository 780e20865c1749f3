"""The parts of a model that LoRAs change, by name. No PyTorch: a server checks names with it."""

from __future__ import annotations

from phonofilm.errors import InputError

LORA_COMPONENTS = ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge")
# What users call them. The high-noise expert works first, at large sigma; the low-noise one finishes.
SHORT_NAMES = {"high": "video_dit", "low": "video_dit_2", "audio": "audio_dit", "bridge": "dual_tower_bridge"}


def component_named(name: str) -> str:
    """The component that `name` (high, low, audio, bridge, or the component itself) means. Raises InputError."""
    component = SHORT_NAMES.get(name, name)
    if component not in LORA_COMPONENTS:
        raise InputError(f"{name!r} is no part of the model; expected one of {', '.join(SHORT_NAMES)}")
    return component
