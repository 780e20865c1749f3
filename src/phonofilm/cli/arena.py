"""`phonofilm arena`: a local page where people compare clips without knowing whose they are. Only glue; docs/evaluation.md."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer


def arena(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="A folder of clips per model, named alike.")],
    votes: Annotated[Path, typer.Option(help="File that the votes are added to.")] = Path("votes.jsonl"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine; 0 takes a free one.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    results: Annotated[bool, typer.Option("--results", help="Print the standings so far, and end.")] = False,
) -> None:
    """Compare clips of two or more models blindly: picture, sound, sync, overall. Elo and win rates come from the votes."""
    from phonofilm.evaluation.arena.arena import Arena
    from phonofilm.evaluation.arena.arena_server import ArenaServer

    match = Arena(folders, votes)
    if results:
        every, remarks = match.results()
        _print_standings(every)
        typer.echo("\n".join(remarks), nl=bool(remarks), err=bool(every))
        return
    (done, total), alone = match.progress, f", {match.alone} clips have no partner" if match.alone else ""
    with ArenaServer(match, port) as server:
        typer.echo(f"{done} of {total} pairs have votes in {votes}{alone}; page: {server.address}, Ctrl-C ends it")
        if browser:
            webbrowser.open(server.address)
        server.serve_forever()


def _print_standings(every: list[dict[str, Any]]) -> None:
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.evaluation.arena.arena import RATING_COLUMNS, SHARE_COLUMNS, rating_rows, share_rows

    for standings in every:
        ratings, shares = ([tuple(map(cell, row)) for row in rows(standings)] for rows in (rating_rows, share_rows))
        console().print(table(RATING_COLUMNS, ratings, standings["question"]), table(SHARE_COLUMNS, shares))
