"""`phonofilm models`: which models there are, fetching one, and whether one is whole. Only glue: models/hub.py and health.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli.shared_options import NewFolder
from phonofilm.untrusted import printable

if TYPE_CHECKING:
    from phonofilm.models.health import CheckpointFinding

app = typer.Typer(help="List, download and verify checkpoints.", no_args_is_help=True)

MARKS = {"ok": "green", "warning": "yellow", "error": "red"}


@app.command("list")
def list_models() -> None:
    """The models with a short name, and what of them is on this machine."""
    from phonofilm.cli.terminal import console, table
    from phonofilm.models.hub import known_model_rows

    console().print(table(("name", "hub id", "size", "here", "what it is"), known_model_rows()))


@app.command()
def download(
    model: Annotated[str, typer.Argument(help="360p, 720p, or a hub id (owner/name)")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a plain folder, instead of the hub's cache")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be downloaded")] = False,
) -> None:
    """Download a checkpoint, with progress; run it again to resume, or to update."""
    from phonofilm.cli.terminal import console
    from phonofilm.errors import InputError
    from phonofilm.models.hub import download_model, plan_download, require_space

    if model == "nano":
        raise InputError("nano is part of the package; there is nothing to download")
    plan = plan_download(model, revision=revision, local_dir=output)
    console().print(plan.summary, soft_wrap=True)
    require_space(plan)
    if not dry_run:
        console().print(f"ready: {download_model(model, revision=revision, local_dir=output)}", soft_wrap=True)


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="a checkpoint folder, a short name, a hub id in the cache, or a LoRA")],
    deep: Annotated[bool, typer.Option("--deep", help="read every tensor and look for NaN and infinity")] = False,
    checksums: Annotated[
        bool,
        typer.Option(
            help="compare every file with the digest from the hub, or from when we saved it (reads all bytes)"
        ),
    ] = True,
) -> None:
    """Check a checkpoint or a LoRA; exit code 1 when it cannot be used."""
    from rich.markup import escape
    from rich.progress import BarColumn, FileSizeColumn, Progress, TextColumn, TransferSpeedColumn

    from phonofilm.cli.terminal import console
    from phonofilm.lora.health import verify_model
    from phonofilm.models.health import is_loadable

    columns = (TextColumn("{task.description}"), BarColumn(), FileSizeColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(error=True), transient=True) as bar:
        task = bar.add_task("headers", total=None)

        def show(subject: str, nbytes: int) -> None:
            bar.update(task, description=escape(printable(subject)), advance=nbytes)

        folder, findings = verify_model(model, checksums=checksums, deep=deep, progress=show)
    print_findings(folder, findings)
    if not is_loadable(findings):
        raise typer.Exit(1)


def print_findings(folder: Path, findings: list[CheckpointFinding]) -> None:
    """The findings as a table, and the verdict under it."""
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.models.health import is_loadable

    rows = [
        (cell(one.severity, MARKS[one.severity]), cell(one.subject), cell(one.message.removeprefix(f"{folder}/")))
        for one in findings
    ]
    console().print(table(("", "what", "finding"), rows, folder))
    console().print("[green]fit for use[/green]" if is_loadable(findings) else "[red]not fit for use[/red]")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="a checkpoint folder, a short name, or a hub id in the cache")],
    tool: Annotated[str, typer.Option("--for", help="sglang, diffsynth or comfyui")],
    output: NewFolder,
) -> None:
    """Write a checkpoint in the folders and files that another tool looks for; docs/checkpoints.md."""
    from phonofilm.models.exporting import export_for_tool
    from phonofilm.models.hub import local_checkpoint
    from phonofilm.models.layout import read_layout

    typer.echo(export_for_tool(read_layout(local_checkpoint(model)), tool, output, Path(model).name))
