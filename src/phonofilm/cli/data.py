"""`phonofilm data`: examine clips for training, cache them, look at the cache. Only glue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli import caption, split
from phonofilm.cli.shared_options import AsJson, Device, Model

if TYPE_CHECKING:
    from phonofilm.data.findings import Finding

app = typer.Typer(
    help="Clips for training: examine them, cache them as latents, look at what is cached.", no_args_is_help=True
)

app.command()(split.split)
app.command()(caption.caption)

Data = Annotated[
    Path,
    typer.Argument(help="Folder of clips with captions beside them, manifest (json, jsonl, csv), or YAML of sets."),
]
Buckets = Annotated[
    list[str] | None,
    typer.Option("--bucket", help="height x width x frames of a window; may be repeated.  [default: 64x64x49]"),
]
Windows = Annotated[str, typer.Option("--windows", help="head, random or several.")]
Count = Annotated[int, typer.Option("--count", min=1, help="Windows per clip (at most, with several).")]
Rate = Annotated[str, typer.Option("--frame-rate", help="Frames per second of the windows.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of random windows.")]
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
    as_json: AsJson = False,
) -> None:
    """Examine every clip and caption for what would teach the model something wrong; exit code 1 when unfit."""
    from phonofilm.cli.terminal import counting, json_text
    from phonofilm.data.examination import examine
    from phonofilm.data.findings import as_json as plain
    from phonofilm.data.findings import is_fit
    from phonofilm.data.repair import check_empty, repair
    from phonofilm.data.sets import read_items
    from phonofilm.data.windows import parse_plan

    if fix is not None:
        check_empty(fix)
    items = read_items(data)
    plan = parse_plan(bucket, windows, count, frame_rate, seed)
    with counting("Examining", silent=as_json) as bar:
        found = examine(items, plan, refuse_silent=refuse_silent, progress=lambda done: bar(done, len(items)))
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
    from phonofilm.cli.terminal import counting
    from phonofilm.data.cache import update_cache
    from phonofilm.data.encoders import encoders_of
    from phonofilm.data.sets import gather, weighted_sources
    from phonofilm.data.windows import parse_plan
    from phonofilm.generation.placement.devices import choose_device

    sources = weighted_sources(data, weight)
    entries = gather(sources, parse_plan(bucket, windows, count, frame_rate, seed), refuse_silent=refuse_silent)
    with counting("Encoding") as bar:
        built = update_cache(output, entries, model, encoders_of(model, choose_device(device)), bar)
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
    from phonofilm.data.encoders import encoders_of
    from phonofilm.data.show import show_cache
    from phonofilm.generation.placement.devices import choose_device

    encoders = encoders_of(model or read_index(cache).model, choose_device(device))
    for path in show_cache(cache, output or cache / "sheets", encoders, first, count):
        typer.echo(path)


def _print_findings(findings: Sequence[Finding], clips: int) -> None:
    from rich.table import Column

    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.data.examination import sound_summary

    colours = {"error": "red", "warning": "yellow"}
    faults = [finding for finding in findings if finding.severity != "note"]
    rows = [
        (cell(one.severity, colours[one.severity]), cell(one.clip), one.kind, cell(one.message), "--fix" * one.fixable)
        for one in faults
    ]
    if faults:
        columns = ("", Column("clip", overflow="fold"), "what", Column("", overflow="fold"), "fix")
        console().print(table(columns, rows))
    console().print(sound_summary(findings, clips))
    errors = sum(finding.severity == "error" for finding in faults)
    verdict = "[red]unfit[/red]" if errors else "[green]fit[/green]"
    console().print(f"{clips} clips, {errors} errors, {len(faults) - errors} warnings: {verdict}")
