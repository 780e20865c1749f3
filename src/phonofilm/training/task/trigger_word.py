"""The word that calls what is learnt: in every caption that is trained on, so that it alone is tied to what they share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from phonofilm.data.sets import Weighted

VISUAL_MARK = re.compile(r"^(\s*\[VISUAL\]:\s*)", re.IGNORECASE)


def has_trigger(caption: str, word: str) -> bool:
    """Whether the caption says the word, as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", caption) is not None


def with_trigger(caption: str, word: str) -> str:
    """The caption with the word at its beginning, after the mark [VISUAL]: where there is one; as it is if it says the word."""
    if has_trigger(caption, word):
        return caption
    mark = VISUAL_MARK.match(caption)
    start = mark.end() if mark else 0
    return f"{caption[:start]}{word}, {caption[start:]}"


def triggered(entries: Iterable[Weighted], word: str) -> tuple[Weighted, ...]:
    """The windows with the word in all their captions; those without a caption are left as they are."""
    return tuple(
        replace(
            entry,
            window=replace(
                entry.window,
                item=replace(entry.window.item, caption=with_trigger(entry.window.item.caption, word)),
            ),
        )
        if entry.window.item.caption
        else entry
        for entry in entries
    )
