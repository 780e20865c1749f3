"""Whether a call's arguments are of the kind they must be: numbers, pairs, texts. Values are checked where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from phonofilm.errors import InputError
from phonofilm.pipeline.types import Text


def number(value: Any, name: str, example: float) -> float:
    """`value` as a float: a number of Python's or NumPy's, and neither text nor a bool."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InputError(f"{name} is {value!r}, a {type(value).__name__}; expected a number, for example {example:g}")
    return float(value)


def whole(value: Any, name: str, example: int) -> int:
    """`value` as an int: a whole number of Python's or NumPy's, and no float that happens to be one."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise InputError(
            f"{name} is {value!r}, a {type(value).__name__}; expected a whole number, for example {example}"
        )
    return int(value)


def positive(value: Any, name: str) -> int:
    """`value` as an int, which must be 1 or more."""
    count = whole(value, name, 1)
    if count < 1:
        raise InputError(f"{name} {count} is not positive; use 1 or more")
    return count


def pair(value: Any, name: str, example: tuple[float, float]) -> tuple[float, float]:
    """`value` as two floats, (start, end)."""
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    if not several or len(value) != 2:
        raise InputError(f"{name} is {value!r}; expected a pair (start, end), for example {example}")
    return number(value[0], name, example[0]), number(value[1], name, example[1])


def texts(value: Any, name: str) -> list[str] | None:
    """`value`, one text or several, as a list; None stays None."""
    if value is None:
        return None
    several = [value] if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) else list(value)
    if wrong := [one for one in several if not isinstance(one, str)]:
        raise InputError(f"{name} is {wrong[0]!r:.80}, a {type(wrong[0]).__name__}; expected text, or a list of texts")
    return several


def embeddings(value: Any, name: str) -> Text | None:
    """`value`, which must be what `encode_prompt` returns, or None."""
    if value is not None and not isinstance(value, Text):
        raise InputError(f"{name} is a {type(value).__name__}; expected what the pipeline's encode_prompt returns")
    return value
