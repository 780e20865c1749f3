"""`phonofilm inspect`: what a clip says about how it was made, and what can be measured in the file."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phonofilm.media.clip_checks import ContainerReport


def inspect(
    clip: Annotated[
        Path, typer.Argument(help="A clip, a frame folder, or latents, as phonofilm generate writes them.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show how a clip was made, and whether the file is sound: tracks, lengths, timestamps, clipping, silence."""
    settings, report = look_at(clip)
    if as_json:
        from phonofilm.cli.terminal import json_text

        measured = None if report is None else {**_plain(report), "problems": report.problems()}
        typer.echo(json_text({"settings": settings, "file": measured}))
        return
    _print_tables(clip, settings, report)


def look_at(clip: Path) -> tuple[Mapping[str, Any] | None, ContainerReport | None]:
    """The clip's own settings (None when it carries none) and what was measured (None for frame folders and latents).

    Raises InputError when there is no such file, MediaError when it is damaged.
    """
    from phonofilm.errors import InputError, MediaError
    from phonofilm.generation.latent_files import is_latents, read_latent_metadata
    from phonofilm.media import read_metadata
    from phonofilm.media.clip_checks import check_container

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


def _print_tables(clip: Path, settings: Mapping[str, Any] | None, report: ContainerReport | None) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from phonofilm.cli.terminal import cell

    console = Console()
    made = Table("setting", Column("value", overflow="fold"), title=cell(f"how {clip} was made"), title_justify="left")
    for key, value in (settings or {}).items():
        for name, text in _rows(key, value):
            made.add_row(cell(name), cell(text))
    console.print(
        made if settings else cell(f"{clip} carries no settings: it was not made by Phonofilm, or lost its comment")
    )
    if report is None:
        return
    measured = Table("track", "what", "value", title="what is in the file", title_justify="left")
    for track, about in _plain(report).items():
        for what, value in about.items() if isinstance(about, dict) else [("", about)]:
            measured.add_row(track, what, cell(value))
    console.print(measured)
    problems = report.problems()
    console.print("[green]nothing wrong with the file[/green]" if not problems else "[yellow]to look at:[/yellow]")
    for problem in problems:
        console.print(cell(f"  {problem}"))


def _rows(key: str, value: Any) -> list[tuple[str, str]]:
    """A setting as rows of the table; each input file has its own."""
    if key == "inputs" and isinstance(value, list) and all(isinstance(file, Mapping) for file in value):
        return [(str(file.get("option")), f"{file.get('path')} (sha256 {file.get('sha256')!s:.12}…)") for file in value]
    return [(key, str(value))]


def _plain(report: ContainerReport) -> dict[str, Any]:
    """The report as JSON values: times as seconds, the frame rate exactly."""
    from dataclasses import fields

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
