"""Prompts with times, "0-8: A ball bounces; 8-16: A lamp blinks", as text and as a JSON object. Needs no model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phonofilm.errors import InputError
from phonofilm.untrusted import shown

_SECONDS = r"\d+(?:\.\d+)?"
_BEGINS = re.compile(rf"\s*({_SECONDS})\s*s?\s*-\s*({_SECONDS})\s*s?\s*:")
_BETWEEN = re.compile(rf"\s*[;\n]\s*(?={_SECONDS}\s*s?\s*-\s*{_SECONDS}\s*s?\s*:)")
# What someone means for times and is none of ours: minutes, no number, a sign, a long dash. "8-bit music: ..." is a prompt.
_OTHER_TIME = r"-?(?:\d[\d.,:]*(?:e[-+]?\d+)?|nan|inf(?:inity)?|end)"
_LOOKS_TIMED = re.compile(
    rf"(?:^|;)\s*(-?\d[\d.,:]*\s*s?\s*[-\u2013\u2014]\s*{_OTHER_TIME}\s*(?:s|sec|seconds)?\s*:)(?=\s)", re.IGNORECASE
)
# Within a prompt that has times: others after a comma or the like, or times whose colon is missing.
_MORE_TIMES = re.compile(
    rf"(?:[,.|/]\s*({_SECONDS}\s*s?\s*[-\u2013\u2014]\s*{_SECONDS}\s*s?\s*:)|[;\n]\s*({_SECONDS}\s*s?\s*-\s*{_SECONDS}\s*s?)(?=\s))"
)
EXAMPLE = "0-8: A ball bounces; 8-16: A lamp blinks"


@dataclass(frozen=True)
class TimedPrompt:
    """What is seen and heard from `start` to `end`, in seconds of the film."""

    start: float
    end: float
    prompt: str


def parse_timed_prompts(prompt: str) -> tuple[TimedPrompt, ...]:
    """The stretches of a prompt with times, between semicolons or on lines of their own; none of a plain prompt.

    Raises InputError unless they begin at 0, follow one another without a gap, and each says something.
    """
    if _BEGINS.match(prompt) is None:
        _refuse_other_times(prompt)
        return ()
    stretches: list[TimedPrompt] = []
    for text in _BETWEEN.split(prompt):
        found = _BEGINS.match(text)
        assert found is not None  # the text was split where one begins
        one = TimedPrompt(float(found[1]), float(found[2]), text[found.end() :].strip().rstrip(";").strip())
        expected = stretches[-1].end if stretches else 0.0
        if one.start != expected:
            raise InputError(
                f"the prompt of {one.start:g}-{one.end:g} s should begin at {expected:g} s, where "
                f"{'the one before ends' if stretches else 'the film begins'}; use for example {EXAMPLE!r}"
            )
        if one.end <= one.start:
            raise InputError(f"the prompt of {one.start:g}-{one.end:g} s ends before it begins")
        _refuse_other_times(one.prompt)
        if more := _MORE_TIMES.search(one.prompt):
            raise InputError(
                f"{shown(more[1] or more[2])} in the prompt of {one.start:g}-{one.end:g} s looks like the times of another one; "
                f"put a semicolon or a line break before its times and a colon behind them, for example {EXAMPLE!r}"
            )
        if not one.prompt:
            raise InputError(f"the prompt of {one.start:g}-{one.end:g} s is empty; say what should be seen and heard")
        stretches.append(one)
    return tuple(stretches)


def _refuse_other_times(text: str) -> None:
    """Raises InputError for times in another form, which would be read as something to see and hear."""
    if found := _LOOKS_TIMED.search(text):
        raise InputError(
            f"{shown(found[1])} looks like the times of a prompt and is not START-END: in seconds; use for example {EXAMPLE!r}"
        )


def timed_prompts_from_json(content: Mapping[Any, Any], where: str) -> str:
    """{"0-8": "A ball bounces", "8-16": "..."} as the text that `parse_timed_prompts` reads. Raises InputError."""
    for time, prompt in content.items():
        if not isinstance(prompt, str) or _BEGINS.fullmatch(f"{time}:") is None:
            raise InputError(
                f'{where}: the prompt holds {shown(f"{time}: {prompt}")}; expected {{"0-8": "A ball bounces", ...}}'
            )
    return "; ".join(f"{time}: {prompt}" for time, prompt in content.items())
