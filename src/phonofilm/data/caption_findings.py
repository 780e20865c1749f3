"""Captions as the doctor reads them: there at all, and in one convention over the whole set. No tokenizer, no files.

The convention keeps what is seen and what is said apart: `[VISUAL]: a man at a desk [SPEECH]: "Good evening."`; a
character's own tag, `[YODA_SPEECH]:`, counts as speech.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from phonofilm.data.findings import Finding
from phonofilm.data.manifest import Item, sidecar

TAG = re.compile(r"\[([A-Z][A-Z0-9_ ]*)\]:")
# What was probably meant as a tag: another case, or the colon missing.
NEAR_TAG = re.compile(r"\[\s*((?:\w+[ _])?(?:visual|speech|sounds?|audio|music))\s*\]", re.IGNORECASE)


def caption_findings(items: Sequence[Item]) -> list[list[Finding]]:
    """One list per item: a missing or empty caption (errors), broken tags, and no tags where the others have some."""
    tagged = [bool(item.caption and TAG.search(item.caption)) for item in items]
    mixed = f"no [VISUAL]: or [SPEECH]: while {sum(tagged)} of {len(items)} captions have them"
    found = []
    for item, has_tags in zip(items, tagged, strict=True):
        if item.caption is None:
            text = f"no caption; write one into {sidecar(item).name}, or into the manifest"
            found.append([Finding("error", item.name, "caption_missing", text)])
        elif not item.caption:
            found.append([Finding("error", item.name, "caption_empty", "the caption is empty")])
        else:
            about = [Finding("warning", item.name, "caption_tags", text) for text in broken_tags(item.caption)]
            if any(tagged) and not has_tags:
                about.append(Finding("warning", item.name, "caption_mixed", mixed))
            found.append(about)
    return found


def broken_tags(caption: str) -> list[str]:
    """What breaks the convention in one caption; nothing in one without tags."""
    problems = [
        f"[{match[1]}] is not a tag as the others are; write [{match[1].upper().replace(' ', '_')}]:"
        for match in NEAR_TAG.finditer(caption)
        if not TAG.match(caption, match.start())
    ]
    tags = [match[1] for match in TAG.finditer(caption)]
    if not tags:
        return problems
    parts = TAG.split(caption)
    if parts[0].strip():
        problems.append(f"text before the first tag: {parts[0].strip()[:40]!r}")
    problems += [f"nothing follows [{tag}]:" for tag, text in zip(tags, parts[2::2], strict=True) if not text.strip()]
    problems += [f"[{tag}]: comes twice" for tag in dict.fromkeys(tags) if tags.count(tag) > 1]
    if "VISUAL" not in tags:
        problems.append("no [VISUAL]: beside the other tags")
    elif tags[0] != "VISUAL":
        problems.append(f"[{tags[0]}]: stands before [VISUAL]:; the picture comes first")
    return problems
