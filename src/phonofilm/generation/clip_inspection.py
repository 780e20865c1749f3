"""What a clip says about how it was made, and what is measured in its file, as values and as rows of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MediaError
from phonofilm.generation.latent_files import is_latents, read_latent_metadata
from phonofilm.media import read_metadata
from phonofilm.media.clip_checks import ContainerReport, check_container


def look_at(clip: Path) -> tuple[Mapping[str, Any] | None, ContainerReport | None]:
    """The clip's own settings (None when it carries none) and what was measured (None for frame folders and latents).

    Raises InputError when there is no such file, MediaError when it is damaged.
    """
    if not clip.exists():
        raise InputError(f"no file at {clip}")
    if is_latents(clip):
        return read_latent_metadata(clip), None
    if clip.is_dir():
        return read_metadata(clip), None
    report = check_container(clip)
    try:
        return read_metadata(clip), report
    except MediaError:
        return None, report


def setting_rows(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings as rows of text; each input file has its own."""
    for key, value in settings.items():
        if key == "inputs" and isinstance(value, list) and all(isinstance(file, Mapping) for file in value):
            for file in value:
                yield str(file.get("option")), f"{file.get('path')} (sha256 {file.get('sha256')!s:.12}…)"
        else:
            yield key, str(value)


def measured_rows(report: ContainerReport) -> Iterator[tuple[str, str, str]]:
    """What was measured as rows of text: track, what, value."""
    for track, about in as_values(report).items():
        for what, value in about.items() if isinstance(about, dict) else [("", about)]:
            yield track, what, str(value)


def as_values(report: ContainerReport) -> dict[str, Any]:
    """The report as JSON values: times as seconds, the frame rate exactly."""
    tracks: dict[str, Any] = {"format": report.format}
    for name in ("picture", "sound"):
        track = getattr(report, name)
        if track is not None:
            tracks[name] = {f.name: _value(f.name, getattr(track, f.name)) for f in fields(track)}
    for name in ("start_difference", "length_difference"):
        difference = getattr(report, name)
        if difference is not None:
            tracks[name] = round(float(difference), 9)
    return tracks


def _value(name: str, value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value) if name == "frame_rate" else round(float(value), 9)
    if isinstance(value, float):
        return round(value, 6)
    return list(value) if isinstance(value, tuple) else value
