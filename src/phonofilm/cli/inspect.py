"""`phonofilm inspect`: what a clip says about how it was made, and what can be measured in the file."""

from __future__ import annotations

from collections.abc import Mapping
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
    from phonofilm.cli.terminal import json_text
    from phonofilm.generation.clip_inspection import as_values, look_at

    settings, report = look_at(clip)
    if as_json:
        measured = None if report is None else {**as_values(report), "problems": report.problems()}
        typer.echo(json_text({"settings": settings, "file": measured}))
        return
    _print_tables(clip, settings, report)


def _print_tables(clip: Path, settings: Mapping[str, Any] | None, report: ContainerReport | None) -> None:
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.generation.clip_inspection import measured_rows, setting_rows

    out = console()
    if settings:
        made = [(cell(name), cell(text)) for name, text in setting_rows(settings)]
        out.print(table(("setting", "value"), made, f"how {clip} was made"))
    else:
        out.print(cell(f"{clip} carries no settings: it was not made by Phonofilm, or lost its comment"))
    if report is None:
        return
    rows = [(track, what, cell(value)) for track, what, value in measured_rows(report)]
    out.print(table(("track", "what", "value"), rows, "what is in the file"))
    problems = report.problems()
    out.print("[green]nothing wrong with the file[/green]" if not problems else "[yellow]to look at:[/yellow]")
    for problem in problems:
        out.print(cell(f"  {problem}"))
