"""Whether a clip on disk is whole: every frame and both tracks decoded, not only counted."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MediaError
from phonofilm.generation.latent_files import read_latent_metadata, read_latents
from phonofilm.generation.outputs import FRAMES, LATENT, Output
from phonofilm.geometry import parse_frame_rate
from phonofilm.media import load_image, read_audio, read_metadata
from phonofilm.media.clip_checks import check_container
from phonofilm.media.folder import SOUND_FILE, frame_files
from phonofilm.media.metadata import read_folder_file


def finished_metadata(output: Output, frames: int) -> Mapping[str, Any] | None:
    """What a finished clip of `frames` frames says of itself; None when it is not there, damaged, short or lacks a track."""
    try:
        if output.contact_sheet is not None:
            load_image(output.contact_sheet)
        if output.kind == LATENT:
            read_latents(output.path)
            return read_latent_metadata(output.path)
        whole = _is_whole_folder(output.path, frames) if output.kind == FRAMES else _is_whole_file(output, frames)
        return read_metadata(output.path) if whole else None
    except (MediaError, InputError):
        return None


def _is_whole_file(output: Output, frames: int) -> bool:
    report = check_container(output.path)
    if report.picture is None:
        return False
    if output.kind == "gif":
        # Frames that repeat the one before are stored as one that lasts longer, in hundredths of a second.
        rate = parse_frame_rate(str(read_metadata(output.path).get("fps")))
        return report.picture.duration >= frames / rate - Fraction(2, 100)
    if report.picture.frames < frames:
        return False
    difference = report.length_difference
    return difference is not None and abs(difference) <= 1 / report.picture.frame_rate


def _is_whole_folder(folder: Path, frames: int) -> bool:
    files = frame_files(folder) if folder.is_dir() else []
    if len(files) < frames:
        return False
    sizes = {load_image(file).size for file in files}
    wave, rate = read_audio(folder / SOUND_FILE)
    frame_rate = parse_frame_rate(str(read_folder_file(folder).get("frame_rate")))
    return len(sizes) == 1 and abs(Fraction(wave.shape[1], rate) - len(files) / frame_rate) <= 1 / frame_rate
