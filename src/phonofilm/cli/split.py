"""`phonofilm data split`: long clips into scenes. Only glue."""

from __future__ import annotations

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
    from phonofilm.cli.terminal import counting
    from phonofilm.data import split as scenes
    from phonofilm.data.sets import read_items
    from phonofilm.untrusted import printable

    settings = scenes.SplitSettings.of(shortest, longest, threshold, at_pauses)
    items = read_items(data)
    done = []
    with counting("Looking") as bar:
        for entry in scenes.split(items, settings, output, clips=clips):
            done.append(entry)
            bar(len(done), len(items))
    summary = scenes.summarise_scenes(done, shortest)
    for line in summary.notes:
        typer.echo(printable(line), err=True)
    typer.echo(summary.line(len(items), output))
    if summary.advice:
        typer.echo(summary.advice, err=True)
    if summary.failed:
        raise typer.Exit(1)
