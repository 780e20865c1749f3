"""`phonofilm data`: examine clips for training, cache them, look at the cache. Only glue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli import caption, split

if TYPE_CHECKING:
    from phonofilm.data.encoders import Encoders
    from phonofilm.data.findings import Finding
    from phonofilm.data.windows import WindowPlan

app = typer.Typer(
    help="Clips for training: examine them, cache them as latents, look at what is cached.", no_args_is_help=True
)

app.command()(split.split)
app.command()(caption.caption)

DEFAULT_BUCKET = "64x64x49"

Data = Annotated[
    Path,
    typer.Argument(help="Folder of clips with captions beside them, manifest (json, jsonl, csv), or YAML of sets."),
]
Buckets = Annotated[
    list[str] | None,
    typer.Option(
        "--bucket", help=f"height x width x frames of a window; may be repeated.  [default: {DEFAULT_BUCKET}]"
    ),
]
Windows = Annotated[str, typer.Option("--windows", help="head, random or several.")]
Count = Annotated[int, typer.Option("--count", min=1, help="Windows per clip (at most, with several).")]
Rate = Annotated[str, typer.Option("--frame-rate", help="Frames per second of the windows.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of random windows.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Checkpoint folder, hub id, nano, 360p or 720p.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N, mps.")]
RefuseSilent = Annotated[bool, typer.Option("--refuse-silent", help="A clip without sound is an error.")]


@app.command()
def doctor(
    data: Data,
    bucket: Buckets = None,
    windows: Windows = "head",
    count: Count = 1,
    frame_rate: Rate = "24",
    seed: Seed = 0,
    refuse_silent: RefuseSilent = False,
    fix: Annotated[
        Path | None, typer.Option(help="New folder for copies without constant offsets, and a manifest that uses them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Examine every clip and caption for what would teach the model something wrong; exit code 1 when unfit."""
    from rich.console import Console
    from rich.progress import Progress

    from phonofilm.cli.terminal import json_text
    from phonofilm.data.examination import examine
    from phonofilm.data.findings import as_json as plain
    from phonofilm.data.findings import is_fit
    from phonofilm.data.repair import check_empty, repair
    from phonofilm.data.sets import read_items

    if fix is not None:
        check_empty(fix)
    items = read_items(data)
    plan = _plan(bucket, windows, count, frame_rate, seed)
    with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bars:
        bar = bars.add_task("Examining", total=len(items))
        found = examine(
            items, plan, refuse_silent=refuse_silent, progress=lambda done: bars.update(bar, completed=done)
        )
    flat = [finding for about in found for finding in about]
    if as_json:
        typer.echo(json_text(plain(flat, len(items))))
    else:
        _print_findings(flat, len(items))
    if fix is not None:
        copies = repair(items, found, fix)
        typer.echo(f"{len(copies)} fixed copies and a manifest of all {len(items)} clips in {fix}", err=as_json)
    if not is_fit(flat):
        raise typer.Exit(1)


@app.command()
def cache(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders, manifests (json, jsonl, csv), YAMLs of sets; several are put together."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the cache; what is still valid in it is kept.")
    ],
    model: Model = "nano",
    weight: Annotated[
        list[int] | None, typer.Option(min=1, help="How often an epoch shows each set; one per set, in order.")
    ] = None,
    bucket: Buckets = None,
    windows: Windows = "head",
    count: Count = 1,
    frame_rate: Rate = "24",
    seed: Seed = 0,
    refuse_silent: RefuseSilent = False,
    device: Device = "auto",
) -> None:
    """Encode clips and captions once; clips, windows, captions or weights that changed are encoded again, no others."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from phonofilm.data.cache import update_cache
    from phonofilm.data.sets import Source, gather
    from phonofilm.errors import InputError

    weights = weight or [1] * len(data)
    if len(weights) != len(data):
        raise InputError(f"{len(weights)} weights were given for {len(data)} sets; give one for each")
    plan = _plan(bucket, windows, count, frame_rate, seed)
    sources = [Source(path, share) for path, share in zip(data, weights, strict=True)]
    entries = gather(sources, plan, refuse_silent=refuse_silent)
    encoders = _encoders(model, device)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bars:
        bar = bars.add_task("Encoding", total=len(entries))
        built = update_cache(
            output, entries, model, encoders, lambda done, total: bars.update(bar, completed=done, total=total)
        )
    typer.echo(f"latents: {built.latents_made} made, {built.latents_kept} kept; ", nl=False)
    typer.echo(f"text: {built.text_made} made, {built.text_kept} kept; {built.removed} stale files removed")
    typer.echo(f"train on it with data.cache={output}")


@app.command()
def show(
    cache: Annotated[Path, typer.Argument(help="A folder that phonofilm data cache made.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the sheets.  [default: CACHE/sheets]")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="By default the one the cache was made with.")
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="Number of the first item.")] = 0,
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="How many items; by default all.")] = None,
    device: Device = "auto",
) -> None:
    """Decode what is cached and draw each item: frames over their waveform, with name and caption."""
    from phonofilm.data.cache import read_index
    from phonofilm.data.show import show_cache

    encoders = _encoders(model or read_index(cache).model, device)
    for path in show_cache(cache, output or cache / "sheets", encoders, first, count):
        typer.echo(path)


def _encoders(model: str, device: str) -> Encoders:
    from phonofilm.data.encoders import Encoders
    from phonofilm.generation.placement.devices import choose_device
    from phonofilm.models.hub import resolve_model
    from phonofilm.models.layout import read_layout

    return Encoders(read_layout(resolve_model(model)), choose_device(device))


def _print_findings(findings: Sequence[Finding], clips: int) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from phonofilm.cli.terminal import cell
    from phonofilm.data.offset_findings import KIND

    console = Console()
    table = Table("", Column("clip", overflow="fold"), "what", Column("", overflow="fold"), "fix")
    faults = [finding for finding in findings if finding.severity != "note"]
    for finding in faults:
        colour = "red" if finding.severity == "error" else "yellow"
        fix = "--fix" if finding.fixable else ""
        table.add_row(
            f"[{colour}]{finding.severity}[/{colour}]", cell(finding.clip), finding.kind, cell(finding.message), fix
        )
    if faults:
        console.print(table)
    known = [finding.value for finding in findings if finding.kind == KIND and finding.value is not None]
    if known:
        far = max(known, key=abs) * 1000
        console.print(f"sound against picture: known for {len(known)} of {clips} clips, at most {far:+.0f} ms apart")
    else:
        console.print("sound against picture: unknown; look and listen")
    errors = sum(finding.severity == "error" for finding in faults)
    verdict = "[red]unfit[/red]" if errors else "[green]fit[/green]"
    console.print(f"{clips} clips, {errors} errors, {len(faults) - errors} warnings: {verdict}")


def _plan(bucket: list[str] | None, windows: str, count: int, frame_rate: str, seed: int) -> WindowPlan:
    from phonofilm.data.windows import WindowPlan, parse_bucket, parse_mode
    from phonofilm.geometry import parse_frame_rate

    buckets = tuple(parse_bucket(text) for text in bucket or [DEFAULT_BUCKET])
    return WindowPlan(buckets, parse_frame_rate(frame_rate), parse_mode(windows), count, seed)
