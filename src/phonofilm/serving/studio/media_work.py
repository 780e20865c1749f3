"""What the media process does with a stored clip: a frame, a strip of frames, the sound, what the file says of itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.media import read_clip, save_clip
from phonofilm.media.metadata import read_metadata
from phonofilm.media.picture import read_picture
from phonofilm.media.sound import read_audio
from phonofilm.media.wav import write_pcm_wav
from phonofilm.media.window import Window
from phonofilm.serving.security.clip_limits import check_clip
from phonofilm.serving.settings import RequestLimits
from phonofilm.serving.store.interface import open_store

CUT_CRF = 8  # what is gone on from should look as it did


@dataclass(frozen=True)
class FramePicture:
    """A frame as PNG, which one it is, and the second at which it begins."""

    content: bytes
    index: int
    seconds: float


@dataclass(frozen=True)
class Strip:
    """Frames side by side as JPEG; how many, and how wide each is."""

    content: bytes
    count: int
    width: int


def frame_picture(place: str, name: str, at: float, fps: float) -> FramePicture:
    """The frame that is shown at second `at` of the stored clip `name`. Raises InputError outside the clip."""
    from PIL import Image

    # A hair later than asked: a player's clock is often a rounding error before the frame that it shows.
    index = int(at * fps + 1e-3)
    with open_store(place).as_file(name) as path:
        found = read_picture(path, Window(start=Fraction(index) / Fraction(fps).limit_denominator(1001), max_frames=1))
    return FramePicture(_encoded(Image.fromarray(found.frames[0]), "PNG"), index, index / fps)


def film_strip(place: str, name: str, count: int, height: int) -> Strip:
    """`count` evenly spaced frames of the stored clip, `height` pixels high."""
    from PIL import Image

    from phonofilm.media.opening import opened, picture_stream

    with open_store(place).as_file(name) as path:
        with opened(path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise InputError("the clip has no picture")
            width = max(2, round(height * stream.width / stream.height))
        frames = read_picture(path, Window(size=(height, width))).frames
    chosen = np.minimum(((np.arange(count) + 0.5) * len(frames) / count).astype(int), len(frames) - 1)
    return Strip(_encoded(Image.fromarray(np.concatenate(frames[chosen], axis=1)), "JPEG"), count, width)


def wav_sound(place: str, name: str) -> bytes:
    """The stored clip's sound as a wav file of 16 bits. Raises MediaError for a clip without one."""
    target = io.BytesIO()
    with open_store(place).as_file(name) as path:
        write_pcm_wav(target, *read_audio(path))
    return target.getvalue()


def cut_clip(place: str, name: str, target: str, seconds: float, limits: RequestLimits) -> None:
    """Store the clip's beginning, up to a moment, under another name. Raises InputError for a moment outside the clip."""
    store = open_store(place)
    with store.as_file(name) as path, TemporaryDirectory(prefix="phonofilm-") as folder:
        check_clip(path, "the clip", limits)
        clip = read_clip(path, end=seconds)
        if clip.seconds < Fraction(seconds) - 1 / clip.frame_rate:
            raise InputError(f"the clip is {float(clip.seconds):.3f} s long")
        file = save_clip(clip, Path(folder) / "cut.mp4", crf=CUT_CRF)
        store.put(target, file)


def recorded_settings(place: str, name: str) -> dict[str, Any]:
    """What the stored clip says of how it was made. Raises MediaError for one that says nothing."""
    with open_store(place).as_file(name) as path:
        return read_metadata(path)


def sample_prompts(files: Mapping[str, Path]) -> dict[str, str]:
    """The prompts of a training's samples by their names, as the files say them; without those that say nothing."""
    found = {}
    for name, file in files.items():
        try:
            prompt = read_metadata(file).get("prompt")
        except (MediaError, OSError):
            continue  # it is being written, or is gone
        if isinstance(prompt, str) and prompt:
            found[name] = prompt
    return found


def _encoded(image: Any, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return target.getvalue()
