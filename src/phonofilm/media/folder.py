"""A clip as a folder: numbered PNG frames, audio.wav and metadata.json."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import InputError, MediaError
from phonofilm.geometry import parse_frame_rate
from phonofilm.media.budget import FrameBudget
from phonofilm.media.clip import Clip
from phonofilm.media.images import fit_image, load_image
from phonofilm.media.metadata import FOLDER_FILE, read_folder_file, to_text
from phonofilm.media.pixels import stacked
from phonofilm.media.wav import write_wav
from phonofilm.media.window import DecodedFrames, Window

SOUND_FILE = "audio.wav"
_OURS = re.compile(r"\d{5,}\.png|audio\.wav|metadata\.json")
_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def write_folder(clip: Clip, wave: np.ndarray | None, sampling_rate: int | None, folder: Path) -> None:
    """00000.png onwards (lossless), audio.wav (32-bit float, lossless) and metadata.json, into a new folder.

    The first frame carries the settings as well, so that a picture taken out of the folder still knows them.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    if clip.metadata:
        about.add_itxt("Comment", to_text(clip.metadata))
    folder.mkdir()
    for index, frame in enumerate(clip.frames):
        path = folder / f"{index:05d}.png"
        Image.fromarray(frame).save(path, format="PNG", compress_level=4, pnginfo=about if index == 0 else None)
    if wave is not None and sampling_rate is not None:
        write_wav(folder / SOUND_FILE, wave, sampling_rate)
    contents = {
        "frame_rate": str(clip.frame_rate),
        "num_frames": clip.num_frames,
        "height": clip.height,
        "width": clip.width,
        "sampling_rate": sampling_rate,
        "settings": dict(clip.metadata),
    }
    (folder / FOLDER_FILE).write_text(to_text(contents, indent=2), "utf-8")


def check_replaceable(folder: Path) -> None:
    """Raises InputError unless the folder is empty or holds nothing but a clip that we wrote."""
    strangers = [entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)]
    if strangers:
        raise InputError(
            f"{folder} holds other files ({strangers[0]}); frames are only written to a new or empty folder, "
            "or over an earlier frame folder"
        )


def read_folder(folder: Path, window: Window) -> tuple[DecodedFrames, Path | None, dict[str, Any]]:
    """The frames of a window, the sound file if there is one, and the settings."""
    about = read_folder_file(folder)
    files = frame_files(folder)
    if not files:
        raise MediaError(f"{folder} holds no frames (PNG, JPEG or WebP files)")
    stated = about.get("frame_rate")
    if stated is None and window.frame_rate is None:
        raise InputError(f"{folder} has no {FOLDER_FILE} that says its frame rate; give frame_rate")
    source = parse_frame_rate(stated) if stated is not None else window.frame_rate
    assert source is not None
    rate = window.frame_rate or source
    window = window.on_frames_of(source)
    available = round((Fraction(len(files)) / source - window.start) * rate)
    limit = window.count(rate)
    count = available if limit is None else min(available, limit)
    if count < 1:
        raise InputError(f"{folder} is {float(len(files) / source):.3f} s long; nothing at {float(window.start):.3f} s")
    # Grid point i shows the frame whose own time, rounded to the grid, is the last not after i.
    chosen = [min(len(files) - 1, _frame_at(window.start + i / rate, source, rate)) for i in range(count)]
    sound = folder / SOUND_FILE
    settings = about.get("settings")
    return (
        DecodedFrames(stacked(_frames(files, chosen, rate, window)), rate, window.start),
        sound if sound.is_file() else None,
        settings if isinstance(settings, dict) else {},
    )


def _frames(files: list[Path], chosen: list[int], rate: Fraction, window: Window) -> list[np.ndarray]:
    """The chosen frames, each read once however often it is shown."""
    budget = FrameBudget()
    frames: list[np.ndarray] = []
    for index, places in groupby(chosen):
        times = len(list(places))
        image = _frame(files[index], window)
        budget.take(image.nbytes, times, times / rate)
        frames += [image] * times
    return frames


def frame_files(folder: Path) -> list[Path]:
    """The frames of a folder, in the order of their names."""
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in _FRAME_SUFFIXES)


def _frame_at(time: Fraction, source: Fraction, rate: Fraction) -> int:
    """The last frame that starts before the middle of the grid interval around `time`."""
    position = (time + 1 / (2 * rate)) * source
    return max(0, -(-position.numerator // position.denominator) - 1)


def _frame(file: Path, window: Window) -> np.ndarray:
    image = load_image(file)
    if window.size is not None:
        image = fit_image(image, *window.size, window.fit)
    return np.asarray(image)
