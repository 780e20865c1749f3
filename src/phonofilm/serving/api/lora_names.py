"""The LoRAs that a request names, against those that the operator offers. What they do is for the worker."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.lora.strength import NO_LORA, parse_strength
from phonofilm.serving.api.errors import invalid
from phonofilm.untrusted import shown

_LORA = re.compile(r"([\w.\-]{1,100})(?::([\w.=,+\-]{1,100}))?")


def loras_of(given: Sequence[str] | str | None, known: Mapping[str, str]) -> list[str] | None:
    """The LoRAs by name, each with its strength, or NO_LORA alone. Raises ApiError for one that the operator does not offer."""
    if given is None:
        return None
    texts = [given] if isinstance(given, str) else list(given)
    if NO_LORA in texts:
        if others := [text for text in texts if text != NO_LORA]:
            raise invalid(
                f"{NO_LORA} takes all LoRAs away, and {shown(others[0])} was given too; give one of them", "loras"
            )
        return [NO_LORA]
    names: list[str] = []
    for text in texts:
        match = _LORA.fullmatch(text)
        if match is None or match[1] not in known:
            offered = ", ".join(known) or "none"
            raise invalid(f"LoRA {shown(text)!r} is not offered; this server has {offered}", "loras")
        if match[2] is not None:
            try:
                parse_strength(Path(match[1]), match[2], text)
            except InputError as error:
                raise invalid(f"LoRA {match[1]}: {error}", "loras") from None
        names.append(match[1])
    if twice := [name for name in names if names.count(name) > 1]:
        raise invalid(
            f"the LoRA {twice[0]} was given twice; give it once, with the strength that it should have", "loras"
        )
    return texts
