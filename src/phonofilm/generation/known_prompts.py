"""What the embedded model does not know: words, pictures, sizes and lengths far from those it was made for.

It knows four scenes and about 120 words, at 64x64 and two seconds. What is asked beyond that comes out as one of the scenes
or as nothing in particular, so it is said once, before anything runs, with prompts that work. Nothing is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from phonofilm.geometry import ClipGeometry
from phonofilm.models.hub import PACKAGED_WEIGHTS

logger = logging.getLogger(__name__)

SCENES = "a bouncing ball, a talking face, a blinking lamp, a xylophone"
# Each names a place, as all captions of its training do: without one the student gets colours and hats wrong.
PROMPTS = (
    "A red ball bounces on a wooden floor in front of a pale blue sky.",
    'A yellow face with a black top hat says "oo" in a low voice, in front of a cream wall.',
    "A mallet plays a tune on a blue xylophone, in front of a cream wall.",
    "A blue lamp on a table blinks with high beeps, in front of a cream wall.",
)
# Words that carry no picture and no sound: a caption without them means the same.
FUNCTION_WORDS = frozenset(
    [
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "there",
        "it",
        "its",
        "is",
        "are",
        "was",
        "be",
        "being",
        "been",
        "has",
        "have",
        "having",
        "to",
        "from",
        "for",
        "at",
        "as",
        "by",
        "into",
        "onto",
        "over",
        "under",
        "and",
        "or",
        "but",
        "then",
        "while",
        "when",
        "who",
        "which",
        "one",
        "two",
        "some",
        "any",
    ]
)
NAMED_WORDS = 6  # unknown words that are spelt out in the warning
SIDES = (48, 96)  # pixels; made for 64
MOST_FRAMES = 97  # made for 49
# The share of pixels that differ so much, of 255, from the one beside or below. At most 0.23 in 240 first frames of its world
# and 0.35 in frames that it made itself, faces with hats and bows among them; 0.44 and more in whole photographs.
EDGE, MOST_EDGES = 6, 0.39


def is_embedded(folder: Path) -> bool:
    """Whether a checkpoint is the embedded model itself; one that was trained further may know more."""
    return folder.resolve() == PACKAGED_WEIGHTS.resolve()


def unknown_words(prompt: str, vocabulary: Collection[str]) -> list[str]:
    """The words of a prompt that the embedded model's tokenizer would spell, each once, in order."""
    words = dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower()))
    return [
        word
        for word in words
        if word not in FUNCTION_WORDS and len(word) > 1 and word not in vocabulary and f"▁{word}" not in vocabulary
    ]


def is_busy(picture: Image.Image) -> bool:
    """Whether a picture, at the model's size, has more edges than any that it has seen or made."""
    pixels = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS))
    grey = pixels.astype(np.float32).mean(-1)
    beside, below = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    return float((np.maximum(beside, below) > EDGE).mean()) > MOST_EDGES


def unfamiliar(
    prompts: Sequence[str], pictures: Sequence[Image.Image], geometry: ClipGeometry, vocabulary: Collection[str]
) -> list[str]:
    """What of a request is far from what the embedded model was made for, each as a clause; empty when nothing is."""
    found = []
    words = list(dict.fromkeys(word for prompt in prompts for word in unknown_words(prompt, vocabulary)))
    if words:
        more = f" and {len(words) - NAMED_WORDS} more" if len(words) > NAMED_WORDS else ""
        found.append(f"it has no word for {', '.join(words[:NAMED_WORDS])}{more}")
    if any(is_busy(picture) for picture in pictures):
        found.append("the given picture has more detail than it can show")
    if not all(SIDES[0] <= side <= SIDES[1] for side in (geometry.height, geometry.width)):
        found.append(f"{geometry.width}x{geometry.height} is far from 64x64, the size that it was made for")
    if geometry.num_frames > MOST_FRAMES:
        found.append(f"{float(geometry.seconds):.3g} s are far more than 2 s, the length that it was made for")
    return found


def warn_if_unfamiliar(
    folder: Path,
    prompts: Sequence[str],
    pictures: Sequence[Image.Image],
    geometry: ClipGeometry,
    vocabulary: Collection[str],
    expected: str | None = None,
) -> None:
    """One warning if the checkpoint in `folder` is the embedded model and the request is far from what it knows.

    expected: how long the request will take, in words, for one that is large.
    """
    if not is_embedded(folder):
        return
    found = unfamiliar(prompts, pictures, geometry, vocabulary)
    if not found:
        return
    quoted = " · ".join(PROMPTS)  # each ends with a full stop
    logger.warning(
        "the embedded model (nano) knows four scenes: %s; %s. Prompts that work: %s For anything else use the model 360p%s",
        SCENES,
        ", and ".join(found),
        quoted,
        f". {expected}" if expected else "",
    )
