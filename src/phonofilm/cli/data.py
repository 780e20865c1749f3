"""`phonofilm data`: examine clips for training, cache them, look at the cache. Only glue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli import caption, split
from phonofilm.cli.machine_options import OnRay
from phonofilm.cli.option_groups import spread
from phonofilm.cli.shared_options import AsJson, Device, Model
from phonofilm.data.window_options import WindowOptions

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
Windows = Annotated[
    WindowOptions,
    {
        "bucket": typer.Option(help="height x width x frames of a window; may be repeated.  [default: 64x64x49]"),
        "windows": typer.Option(help="head, random or several."),
        "count": typer.Option(min=1, help="Windows per clip (at most, with several)."),
        "frame_rate": typer.Option(help="Frames per second of the windows."),
        "seed": typer.Option(help="Seed of random windows."),
        "refuse_silent": typer.Option("--refuse-silent", help="A clip without sound is an error."),
    },
]


@app.command()
@spread
def doctor(
    data: Data,
    *,
    window: Windows,
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

    if fix is not None:
        check_empty(fix)
    items = read_items(data)
    plan = window.plan()
    with counting("Examining", silent=as_json) as bar:
        found = examine(items, plan, refuse_silent=window.refuse_silent, progress=lambda done: bar(done, len(items)))
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
@spread
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
    *,
    window: Windows,
    device: Device = "auto",
    shared: OnRay,
) -> None:
    """Encode clips and captions once; clips, windows, captions or weights that changed are encoded again, no others."""
    from phonofilm.cli.terminal import counting
    from phonofilm.data.sets import gather, weighted_sources
    from phonofilm.serving.ray_options import update_cache_on

    cluster = shared.cluster()
    sources = weighted_sources(data, weight)
    entries = gather(sources, window.plan(), refuse_silent=window.refuse_silent)
    with counting("Encoding") as bar:
        built = update_cache_on(cluster, output, entries, model, device, bar)
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
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.data.examination import sound_summary
    from phonofilm.data.findings import FAULT_COLUMNS, counted_faults, fault_rows, is_fit

    colours = {"error": "red", "warning": "yellow"}
    if rows := fault_rows(findings):
        cells = [(cell(severity, colours[severity]), *map(cell, rest)) for severity, *rest in rows]
        console().print(table(FAULT_COLUMNS, cells))
    console().print(sound_summary(findings, clips))
    verdict = "[green]fit[/green]" if is_fit(findings) else "[red]unfit[/red]"
    console().print(f"{counted_faults(findings, clips)}: {verdict}")
