"""`phonofilm data split`: long clips into scenes. Only glue."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for manifest.jsonl; then itself a data set.", show_default=False)
]


def split(
    data: Annotated[
        Path, typer.Argument(metavar="FILE", help="A film, a folder of films, a manifest, or a YAML of sets.")
    ],
    output: Output,
    shortest: Annotated[float, typer.Option(help="Seconds; shorter scenes are left out.")] = 2.0,
    longest: Annotated[float, typer.Option(help="Seconds; longer scenes are divided. 0 leaves them whole.")] = 10.0,
    threshold: Annotated[float, typer.Option(min=1.0, help="How much a cut stands out; less finds more cuts.")] = 3.0,
    at_pauses: Annotated[
        bool, typer.Option("--at-pauses", help="Begin, end and divide scenes where the sound pauses, not inside words.")
    ] = False,
    clips: Annotated[
        bool, typer.Option("--clips", help="Write each scene as a clip of its own, encoded anew, not as a stretch.")
    ] = False,
) -> None:
    """Find the scenes of long clips; the same command goes on where it stopped. Exit code 1 when a clip cannot be read."""
    from rich.console import Console
    from rich.progress import track

    from phonofilm.data import split as scenes
    from phonofilm.data.manifest import NEW_MANIFEST
    from phonofilm.data.sets import read_items
    from phonofilm.untrusted import printable

    settings = scenes.SplitSettings(
        Fraction(str(shortest)), Fraction(str(longest)) if longest else None, threshold, at_pauses
    )
    items = read_items(data)
    progress = Console(stderr=True)
    done = list(
        track(
            scenes.split(items, settings, output, clips=clips), "Looking", len(items), console=progress, transient=True
        )
    )
    for entry in done:
        if entry.failure is not None:
            typer.echo(printable(f"{entry.item.name}: {entry.failure}"), err=True)
        elif not entry.rows:
            typer.echo(printable(f"{entry.item.name}: no scene of {shortest:g} s or more"), err=True)
    for entry in done:
        if entry.flashes:
            passed = f"{entry.flashes} sudden changes were taken for flashes, not for cuts; look at its scenes"
            typer.echo(printable(f"{entry.item.name}: {passed}"), err=True)
    failed = sum(entry.failure is not None for entry in done)
    lost = sum(bool(entry.item.caption) and not any("caption" in row for row in entry.rows) for entry in done)
    typer.echo(
        f"{sum(len(entry.rows) for entry in done)} scenes of {len(items) - failed} clips in {output / NEW_MANIFEST}"
    )
    if lost:
        typer.echo(f"{lost} captions spoke of a whole clip and are left out; caption the scenes", err=True)
    if failed:
        raise typer.Exit(1)
