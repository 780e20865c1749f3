"""A session's arguments, which may be objects of Python's and NumPy's, as the plain values that options are read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import InputError
from phonofilm.media.clip import Clip
from phonofilm.pipeline.given_media import URL_PREFIXES, Picture

Loras = str | Path | Sequence[str | Path]


def plain_value(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, several values as a list, a Fraction as text; all else as it is."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain_value(one) for one in value]
    return value


def lora_texts(loras: Loras | None) -> list[str] | None:
    """One LoRA or several as `--lora` takes them. Raises InputError for what is neither a path nor text."""
    if loras is None:
        return None
    several = [loras] if isinstance(loras, str | Path) or not isinstance(loras, Sequence) else list(loras)
    if wrong := [one for one in several if not isinstance(one, str | Path)]:
        raise InputError(f'loras holds {wrong[0]!r:.80}; expected files, such as "voice.safetensors:0.8"')
    return [str(one) for one in several]


def picture_times(keyframes: Mapping[float, Picture] | None) -> dict[float, Picture]:
    """Keyframes by their seconds as floats. Raises InputError for what is no mapping, and for a time that is no number."""
    if keyframes is None:
        return {}
    if not isinstance(keyframes, Mapping):
        raise InputError(
            f"keyframes is a {type(keyframes).__name__}; expected pictures by their seconds, such as "
            '{3.5: "picture.png"}'
        )
    try:
        return {float(seconds): picture for seconds, picture in keyframes.items()}
    except (TypeError, ValueError):
        raise InputError(f"keyframes has the times {[*keyframes]!r:.80}; expected seconds, such as 3.5") from None


def clip_to_repeat(like: object) -> Clip | Path:
    """What `like` gives: a clip, or a file's path. Raises InputError for anything else."""
    if isinstance(like, Clip):
        return like
    if not isinstance(like, str | Path):
        raise InputError(
            f"like is a {type(like).__name__}; expected a Clip, or the path of a file that Phonofilm wrote"
        )
    return Path(like)


def is_file(given: object) -> bool:
    """Whether a picture, clip or sound is given as a path, and not as an object or a URL."""
    return isinstance(given, Path) or (isinstance(given, str) and not given.startswith(URL_PREFIXES))
