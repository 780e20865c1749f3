"""The first half of planning a clip, for which no checkpoint is needed: its files are found, read and can be written."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions, check_options, parse_retake
from phonofilm.generation.outputs import Output, choose_outputs
from phonofilm.generation.provenance import INPUTS, InputFile, input_file
from phonofilm.media import load_image, read_audio, read_clip
from phonofilm.media.images import Fit
from phonofilm.pipeline import edit_tasks
from phonofilm.pipeline.request import Tracks

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class ClipInputs:
    """The options of a clip with their files read. One seed and one output per clip; `paths` and `files` by option."""

    options: ClipOptions
    prompt: str
    image: Image.Image | None
    last_image: Image.Image | None
    image_fit: Fit
    tracks: Tracks
    seeds: tuple[int, ...]
    outputs: tuple[Output, ...]
    paths: dict[str, Path]
    files: tuple[InputFile, ...]


def read_inputs(options: ClipOptions, overwrite: bool) -> ClipInputs:
    """Raises InputError or MediaError for the first thing that is wrong."""
    prompt, count = check_options(options)
    outputs = choose_outputs(options.output, options.output_type, count, overwrite, options.contact_sheet)
    paths = {name: getattr(options, name) for name in INPUTS if getattr(options, name) is not None}
    files = tuple(input_file(name, path) for name, path in paths.items())
    image, last_image = (None if path is None else load_image(path) for path in (options.image, options.last_image))
    return ClipInputs(
        options=options,
        prompt=prompt,
        image=image,
        last_image=last_image,
        image_fit=_one_of("image_fit", options.image_fit or "crop", get_args(Fit)),
        tracks=_tracks(options),
        seeds=_seeds(options.seed, count),
        outputs=outputs,
        paths=paths,
        files=files,
    )


def _tracks(options: ClipOptions) -> Tracks:
    return Tracks(
        video=None if options.video is None else read_clip(options.video),
        audio=None if options.audio is None else read_audio(options.audio),
        continue_from=None if options.continue_from is None else read_clip(options.continue_from),
        overlap_frames=edit_tasks.OVERLAP_FRAMES if options.overlap_frames is None else options.overlap_frames,
        retake=None if options.retake is None else parse_retake(options.retake),
        retake_tracks=_one_of("retake_tracks", options.retake_tracks or "both", get_args(edit_tasks.RetakeTracks)),
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
