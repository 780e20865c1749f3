"""How strongly a LoRA works: one number, or one per part of the model, also as text on a command line."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.lora.components import LORA_COMPONENTS, component_named
from phonofilm.untrusted import parse_number

Strength = float | Mapping[str, float]

BRIDGE_DIRECTIONS = {"audio_to_video_conditioners": "a2v", "video_to_audio_conditioners": "v2a"}
# From the widest to the narrowest name of each part; the narrowest that is given counts.
NAMES = {
    "video_dit": ("video", "high"),
    "video_dit_2": ("video", "low"),
    "audio_dit": ("audio",),
    "dual_tower_bridge": ("bridge",),
}
KNOWN = ("video", "high", "low", "audio", "bridge", "a2v", "v2a", *LORA_COMPONENTS)
EXPERT = "expert"
NO_LORA = "none"  # instead of a LoRA: none at all, not even the student of few steps that a model has


@dataclass(frozen=True)
class LoraChoice:
    """What `--lora` says: a file, how strongly it works, and what it is for if it does not say so itself."""

    path: Path
    strength: Strength = 1.0
    expert: str | None = None


def strength_of(strength: Strength, component: str, path: str) -> float:
    """The strength of one layer: 1 where a mapping says nothing of it."""
    if isinstance(strength, int | float):
        return float(strength)
    return next((float(strength[name]) for name in reversed(_names(component, path)) if name in strength), 1.0)


def strengths_of(strength: Strength, layers: Collection[tuple[str, str]]) -> set[float]:
    """Every strength that one of these layers (component, path) has."""
    return {strength_of(strength, *layer) for layer in layers}


def idle_strengths(strength: Strength, layers: Collection[tuple[str, str]]) -> list[str]:
    """Of the names that a strength is given for, those that none of these layers (component, path) goes by."""
    named = {name for component, path in layers for name in _names(component, path)}
    return [name for name in strength if name not in named] if isinstance(strength, Mapping) else []


def _names(component: str, path: str) -> tuple[str, ...]:
    """The names of a layer's parts, from the widest to the narrowest. a2v and v2a are the bridge's directions."""
    direction = BRIDGE_DIRECTIONS.get(path.partition(".")[0]) if component == "dual_tower_bridge" else None
    return (*NAMES[component], component, *((direction,) if direction else ()))


def check_strength(strength: Strength) -> None:
    """Raises InputError when a mapping names no part of a model, or a strength is no finite number."""
    if isinstance(strength, Mapping) and (unknown := [name for name in strength if name not in KNOWN]):
        raise InputError(f"strength is given for {unknown[0]!r}; expected one of {', '.join(KNOWN)}")
    for value in strength.values() if isinstance(strength, Mapping) else (strength,):
        if not math.isfinite(value):
            raise InputError(f"strength {value} is not a finite number; use for example 0.8")


def parse_lora_option(text: str) -> LoraChoice:
    """`FILE`, `FILE:0.8` or `FILE:video=1,audio=0.5,bridge=0`, also with `expert=low` (strength 1 by default).

    Raises InputError when what follows the last colon starts like a strength and is none.
    """
    file, colon, tail = text.rpartition(":")
    if not colon or Path(text).exists():
        return LoraChoice(Path(text))
    return parse_strength(Path(file), tail, text)


def parse_strength(path: Path, tail: str, text: str) -> LoraChoice:
    """What `tail`, which follows the colon of `text`, says of a LoRA. Raises InputError."""
    if "=" not in tail:
        return LoraChoice(path, _number(tail, text))
    strength: dict[str, float] = {}
    expert = None
    for item in tail.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise InputError(f"{item!r} in {text!r} is no strength; expected NAME=NUMBER, such as audio=0.5")
        if name == EXPERT:
            component_named(value)
            expert = value
        elif name in strength:
            raise InputError(f"{text!r} gives {name} twice; give it once")
        else:
            strength[name] = _number(value, text)
    check_strength(strength)
    return LoraChoice(path, strength or 1.0, expert)


def tell_strength(strength: Strength, expert: str | None = None) -> str:
    """What `parse_lora_option` reads after the colon, to the last digit: "0.8", or "video=1,audio=0.5,expert=low"."""
    if not isinstance(strength, Mapping) and expert is None:
        return repr(float(strength))
    parts = strength if isinstance(strength, Mapping) else dict.fromkeys(("video", "audio", "bridge"), strength)
    written = [f"{name}={float(value)!r}" for name, value in parts.items()]
    return ",".join([*written, *([] if expert is None else [f"{EXPERT}={expert}"])])


def _number(value: str, text: str) -> float:
    try:
        number = parse_number(value)
    except ValueError as error:
        raise InputError(
            f"{value!r} in {text!r} is no strength; expected a number, such as 0.8, or one for each part, such as "
            "video=1,audio=0.5,bridge=0"
        ) from error
    check_strength(number)
    return number
