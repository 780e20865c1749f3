"""Stretches of a clip to make anew, "0.5:1.0; 1.5:1.9=A bell rings", as text. Needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from phonofilm.errors import InputError
from phonofilm.untrusted import parse_number

_BETWEEN = re.compile(r";\s*(?=\d+(?:\.\d*)?:)")


@dataclass(frozen=True)
class Retake:
    """From `start` to `end` in seconds; `prompt` is None where the clip's own is meant."""

    start: float
    end: float
    prompt: str | None = None

    def __str__(self) -> str:
        return f"{self.start}:{self.end}" + ("" if self.prompt is None else f"={self.prompt}")


def parse_retakes(text: str) -> tuple[Retake, ...]:
    """ "1.5:2.5" or several, each with a prompt after "=" or without. Raises InputError for anything else."""
    found = []
    for one in _BETWEEN.split(text):
        stretch, equals, prompt = one.strip().rstrip(";").partition("=")
        try:
            start, end = (parse_number(part) for part in stretch.split(":"))
        except ValueError:
            raise InputError(
                f"retake {one!r:.80} is not START:END in seconds; use for example 1.5:2.5, or 1.5:2.5=PROMPT"
            ) from None
        if equals and not prompt.strip():
            raise InputError(f"retake {one!r:.80} has an empty prompt; say what should be seen and heard")
        found.append(Retake(start, end, prompt.strip() if equals else None))
    in_order = sorted(found, key=lambda one: one.start)
    for before, after in pairwise(in_order):
        if after.start < before.end:
            raise InputError(
                f"retake {after.start:g}:{after.end:g} begins before {before.start:g}:{before.end:g} has ended, and would make "
                "a part of it twice; give stretches that do not overlap"
            )
    return tuple(found)


def retakes_text(retakes: Sequence[object]) -> str:
    """Several stretches as one text; each is text, or a pair of seconds."""
    return "; ".join(
        one if isinstance(one, str) else ":".join(map(str, one)) if isinstance(one, list | tuple) else str(one)
        for one in retakes
    )
