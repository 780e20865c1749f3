"""Reading a clip: picture and sound of a file or a frame folder, cut to the same stretch of time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.geometry import parse_frame_rate
from phonofilm.media.clip import Clip, fit_length, picture_samples
from phonofilm.media.folder import read_folder
from phonofilm.media.images import Fit
from phonofilm.media.metadata import from_text
from phonofilm.media.opening import comment, opened
from phonofilm.media.picture import read_picture
from phonofilm.media.sound import read_sound
from phonofilm.media.waveform import resample
from phonofilm.media.window import DecodedFrames, Window
from phonofilm.untrusted import FOLDER_FAULT, file_fault

Seconds = float | Fraction


def read_clip(
    path: str | Path,
    *,
    start: Seconds | None = None,
    end: Seconds | None = None,
    frame_rate: float | str | Fraction | None = None,
    sampling_rate: int | None = None,
    mono: bool = False,
    max_frames: int | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
) -> Clip:
    """A file's picture and sound as a Clip whose tracks start together and are equally long.

    Time 0 is the first frame of the picture; `start` (moved to the nearest frame) and `end` are seconds after it. Sound
    that begins later is padded with silence, sound outside the picture is cut. `frame_rate` and `sampling_rate` resample
    (default: the file's own; a variable frame rate becomes its average); `mono` averages the channels; `max_frames` stops
    early; `size` = (height, width) fits every frame as it is read. A folder is read as frames (PNG, JPEG or WebP in name
    order) with audio.wav.
    Raises InputError for a wrong request, MediaError for a file that is damaged or has no picture.
    """
    window = _window(start, end, frame_rate, max_frames, size, fit)
    path = Path(path)
    if file_fault(path) == FOLDER_FAULT:
        picture, sound_file, metadata = read_folder(path, window)
    else:
        picture, sound_file = read_picture(path, window), path
        with opened(path) as container:
            metadata = from_text(comment(container) or "") or {}
    return _with_sound(picture, sound_file, sampling_rate, mono, metadata)


def _with_sound(
    picture: DecodedFrames, file: Path | None, sampling_rate: int | None, mono: bool, metadata: dict[str, Any]
) -> Clip:
    seconds = len(picture.frames) / picture.frame_rate
    sound = None
    if file is not None:
        sound = read_sound(file, origin=picture.start, seconds=seconds, mono=mono)
    if sound is None:
        return Clip(picture.frames, picture.frame_rate, metadata=metadata)
    wave, rate = sound
    target = rate if sampling_rate is None else sampling_rate
    wave = fit_length(resample(wave, rate, target), picture_samples(seconds, target))
    return Clip(picture.frames, picture.frame_rate, wave, target, metadata)


def _window(
    start: Seconds | None,
    end: Seconds | None,
    frame_rate: float | str | Fraction | None,
    max_frames: int | None,
    size: tuple[int, int] | None,
    fit: Fit,
) -> Window:
    first = Fraction(start or 0)
    last = None if end is None else Fraction(end)
    if first < 0 or (last is not None and last <= first):
        raise InputError(f"cannot read from {start or 0} s to {end} s; start must be 0 or more and end must be later")
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames {max_frames} is not positive")
    if size is not None and min(size) < 1:
        raise InputError(f"size {size} is not a (height, width) in pixels")
    rate = None if frame_rate is None else parse_frame_rate(frame_rate)
    return Window(first, last, rate, max_frames, size, fit)
