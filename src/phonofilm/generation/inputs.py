"""A clip's options with its files read: the first half of planning, for which no checkpoint is needed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from phonofilm.errors import InputError
from phonofilm.generation.films.retakes import Retake, parse_retakes
from phonofilm.generation.films.timed_prompts import TimedPrompt, parse_timed_prompts
from phonofilm.generation.options import ClipOptions, check_options, parse_keyframe
from phonofilm.generation.provenance import INPUTS, InputFile, input_file
from phonofilm.geometry import parse_frame_rate
from phonofilm.media import load_image
from phonofilm.media.clip import Clip
from phonofilm.media.images import Fit
from phonofilm.pipeline import edit_tasks, given_media
from phonofilm.pipeline.call_arguments import Defaults, Tracks
from phonofilm.pipeline.given_media import GivenClip, GivenSound, Picture
from phonofilm.pipeline.keyframes import Keyframe


@dataclass(frozen=True)
class MediaInMemory:
    """Pictures, clips and sounds that are given as objects and not as files."""

    image: Picture | None = None
    last_image: Picture | None = None
    video: GivenClip | None = None
    audio: GivenSound | None = None
    continue_from: GivenClip | None = None
    voice: GivenSound | None = None
    keyframes: Mapping[float, Picture] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipInputs:
    """The options of a clip with its media read. `paths` by option; `files` are what the clip's metadata holds of them."""

    options: ClipOptions
    prompt: str
    image: Image.Image | None
    last_image: Image.Image | None
    image_fit: Fit
    tracks: Tracks
    seed: int
    paths: dict[str, Path]
    files: tuple[InputFile, ...]
    retakes: tuple[Retake, ...] = ()
    timed_prompts: tuple[TimedPrompt, ...] = ()
    keyframes: tuple[Keyframe, ...] = ()
    keyframe_files: tuple[InputFile, ...] = ()


def read_inputs(options: ClipOptions, media: MediaInMemory | None = None) -> ClipInputs:
    """Raises InputError or MediaError for the first thing that is wrong."""
    media = media or MediaInMemory()
    objects = {name: one for name in INPUTS if (one := getattr(media, name)) is not None}
    given = {name: one for name in INPUTS if (one := objects.get(name, getattr(options, name))) is not None}
    prompt, _ = check_options(options, in_memory=[name for name in given if getattr(options, name) is None])
    rate = parse_frame_rate(Defaults.frame_rate if options.fps is None else options.fps)
    files = [input_file(name, one) for name, one in given.items() if isinstance(one, Path)]
    read = {name: _read(name, one, rate) for name, one in given.items()}
    in_memory = [InputFile(name, None, _digest(read[name])) for name, one in given.items() if not isinstance(one, Path)]
    keyframes = _keyframes(options, media) if options.keyframe or media.keyframes else []
    retakes = () if options.retake is None else parse_retakes(options.retake)
    return ClipInputs(
        options=options,
        prompt=prompt,
        image=read.get("image"),
        last_image=read.get("last_image"),
        image_fit=_one_of("image_fit", options.image_fit, get_args(Fit)) if options.image_fit else "crop",
        tracks=Tracks(
            video=read.get("video"),
            audio=read.get("audio"),
            continue_from=read.get("continue_from"),
            voice=read.get("voice"),
            overlap_frames=edit_tasks.OVERLAP_FRAMES if options.overlap_frames is None else options.overlap_frames,
            retake=(retakes[0].start, retakes[0].end) if retakes else None,
            retake_tracks=_one_of("retake_tracks", options.retake_tracks, get_args(edit_tasks.RetakeTracks))
            if options.retake_tracks
            else "both",
        ),
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
        paths={name: one for name, one in given.items() if isinstance(one, Path)},
        files=(*files, *in_memory),
        retakes=retakes,
        timed_prompts=parse_timed_prompts(prompt) if ":" in prompt else (),
        keyframes=tuple(one for one, _ in keyframes),
        keyframe_files=tuple(file for _, file in keyframes),
    )


def _keyframes(options: ClipOptions, media: MediaInMemory) -> list[tuple[Keyframe, InputFile]]:
    """The pictures with their times, in order, and what the clip's metadata holds of each."""
    found = []
    for seconds, file in map(parse_keyframe, options.keyframe or ()):
        recorded = input_file("keyframe", file)
        found.append((Keyframe(seconds, load_image(file)), recorded))
    for seconds, given in media.keyframes.items():
        picture = given_media.picture(given, "keyframe")
        found.append((Keyframe(float(seconds), picture), InputFile("keyframe", None, _digest(picture))))
    return sorted(found, key=lambda one: one[0].seconds)


def _read(name: str, given: Any, rate: Fraction) -> Any:
    if name in ("image", "last_image"):
        return load_image(given) if isinstance(given, Path) else given_media.picture(given, name)
    return given_media.sound(given, name) if name in ("audio", "voice") else given_media.clip(given, name, rate)


def _digest(read: Image.Image | Clip | tuple[np.ndarray, int]) -> str:
    """SHA-256 of what is seen and heard."""
    digest = hashlib.sha256()
    if isinstance(read, Clip):
        parts: list[Any] = [read.frames, read.frame_rate, read.audio, read.sampling_rate]
    else:
        parts = [np.asarray(read)] if isinstance(read, Image.Image) else list(read)
    for part in parts:
        array = isinstance(part, np.ndarray)
        digest.update(f"{part.shape} {part.dtype}".encode() if array else repr(part).encode())
        digest.update(np.ascontiguousarray(part).data if array else b"")
    return digest.hexdigest()


def _one_of(name: str, value: Any, known: Sequence[str]) -> Any:
    if value not in known:
        raise InputError(f"{name} {value!r} is unknown; use one of {', '.join(known)}")
    return value
