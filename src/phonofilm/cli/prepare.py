"""The first half of planning a clip, for which no checkpoint is needed: its files are found, read and can be written."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from phonofilm.cli.asked import Asked, parse_retake
from phonofilm.cli.record import INPUTS, InputFile, input_file
from phonofilm.cli.targets import Target, choose_targets
from phonofilm.errors import InputError
from phonofilm.media import load_image, read_audio, read_clip
from phonofilm.media.images import Fit
from phonofilm.pipeline import given
from phonofilm.pipeline.request import Tracks

MAX_SEED = 2**63 - 1
MAX_CLIPS = 10_000
# Options that change nothing unless one of the others is given.
NEEDS = {
    "retake": ("video",),
    "retake_tracks": ("retake",),
    "overlap_frames": ("continue_from",),
    "image_fit": ("image", "last_image"),
}


@dataclass(frozen=True)
class Prepared:
    """What was asked, with its files read. One seed and one target per clip; `paths` and `inputs` by option."""

    asked: Asked
    prompt: str
    image: Image.Image | None
    last_image: Image.Image | None
    image_fit: Fit
    tracks: Tracks
    seeds: tuple[int, ...]
    targets: tuple[Target, ...]
    paths: dict[str, Path]
    inputs: tuple[InputFile, ...]


def prepare(asked: Asked, overwrite: bool) -> Prepared:
    """Raises InputError or MediaError for the first thing that is wrong."""
    if asked.prompt is None or not asked.prompt.strip():
        raise InputError("the prompt is empty; say what should be seen and heard")
    for name, needed in NEEDS.items():
        if getattr(asked, name) is not None and all(getattr(asked, other) is None for other in needed):
            raise InputError(f"{name} was given without {' or '.join(needed)}; it would change nothing")
    count = 1 if asked.num_clips is None else asked.num_clips
    if not 1 <= count <= MAX_CLIPS:
        raise InputError(f"num_clips {count} is outside 1 to {MAX_CLIPS}")
    targets = choose_targets(asked.output, asked.output_type, count, overwrite, asked.contact_sheet)
    paths = {name: getattr(asked, name) for name in INPUTS if getattr(asked, name) is not None}
    inputs = tuple(input_file(name, path) for name, path in paths.items())
    image, last_image = (None if path is None else load_image(path) for path in (asked.image, asked.last_image))
    return Prepared(
        asked=asked,
        prompt=asked.prompt,
        image=image,
        last_image=last_image,
        image_fit=_one_of("image_fit", asked.image_fit or "crop", get_args(Fit)),
        tracks=_tracks(asked),
        seeds=_seeds(asked.seed, count),
        targets=targets,
        paths=paths,
        inputs=inputs,
    )


def _tracks(asked: Asked) -> Tracks:
    if sum(path is not None for path in (asked.video, asked.audio, asked.continue_from)) > 1:
        raise InputError("give one of video, audio and continue_from: the other track is what is made")
    return Tracks(
        video=None if asked.video is None else read_clip(asked.video),
        audio=None if asked.audio is None else read_audio(asked.audio),
        continue_from=None if asked.continue_from is None else read_clip(asked.continue_from),
        overlap_frames=given.OVERLAP_FRAMES if asked.overlap_frames is None else asked.overlap_frames,
        retake=None if asked.retake is None else parse_retake(asked.retake),
        retake_tracks=_one_of("retake_tracks", asked.retake_tracks or "both", get_args(given.RetakeTracks)),
    )


def _seeds(seed: int | None, count: int) -> tuple[int, ...]:
    """Clip i has the first one's seed + i."""
    first = secrets.randbelow(2**31) if seed is None else seed
    if not 0 <= first <= MAX_SEED - count:
        raise InputError(f"seed {first} is outside 0 to {MAX_SEED}")
    return tuple(first + index for index in range(count))


def _one_of(name: str, value: Any, known: Sequence[str]) -> Any:
    if value not in known:
        raise InputError(f"{name} {value!r} is unknown; use one of {', '.join(known)}")
    return value
