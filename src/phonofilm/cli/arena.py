"""`phonofilm arena`: a local page where people compare clips without knowing whose they are. Only glue; docs/evaluation.md."""

from __future__ import annotations

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
    """Compare clips of two or more models blindly: picture, sound, sync, overall. Elo and win rates come of the votes."""
    import webbrowser

    from phonofilm.errors import InputError
    from phonofilm.evaluation.arena.arena import Arena
    from phonofilm.evaluation.arena.server import ArenaServer
    from phonofilm.evaluation.arena.votes import QUESTIONS

    match = Arena(folders, votes)
    if results:
        for question in QUESTIONS:
            _print_standings(match.standings(question))
        return
    try:
        server = ArenaServer(match, port)
    except OSError as error:
        raise InputError(f"port {port} cannot be used ({error.strerror}); choose another with --port, or 0") from error
    done, total = match.progress
    typer.echo(f"{done} of {total} pairs have votes in {votes}; the page is at {server.address}, Ctrl-C ends it")
    if browser:
        webbrowser.open(server.address)
    with server:
        server.serve_forever()


def _print_standings(standings: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from phonofilm.cli.terminal import cell

    table = Table("model", "Elo", "Bradley-Terry", "95 %", "votes", title=standings["question"])
    for one in standings["ratings"]:
        figures = (f"{one['elo']:.1f}", f"{one['bradley_terry']:.1f}", f"{one['low']:.0f} to {one['high']:.0f}")
        table.add_row(cell(one["model"]), *figures, str(one["votes"]))
    shares = Table("model", "against", "win", "tie", "lose", "votes")
    for one in standings["win_shares"]:
        percent = (f"{one[name]:.1%}" for name in ("win", "tie", "lose"))
        shares.add_row(cell(one["model"]), cell(one["opponent"]), *percent, str(one["votes"]))
    Console().print(table, shares)
