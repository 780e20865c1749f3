"""`phonofilm bench`: one guided step on this machine, where the repository's benchmarks are there. Only glue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from phonofilm.errors import InputError


def bench(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figures (JSON) and their plot.")
    ] = Path("outputs/bench"),
    size: Annotated[
        str | None, typer.Option(help="tiny, 360p, 360p-17 or 720p; by default tiny on a CPU, 360p on a GPU.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (as generate), float32, bfloat16 or float16.")] = "auto",
    only: Annotated[list[str] | None, typer.Option(help="A contestant's name; may be given several times.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Turns of each contestant, interleaved; by default 3, on a GPU 1.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Timed steps in a turn; by default 3, on a GPU 2.")] = None,
) -> None:
    """Time a guided step: resident, streamed, in fp8, fused, compiled, and offloaded by diffusers, on random weights.

    Every turn is a line of OUT/bench-SIZE.jsonl as soon as it is over.
    """
    _find_benchmarks()
    from rich.console import Console
    from rich.table import Table

    from benchmarks.contestants import chosen
    from benchmarks.race import race
    from benchmarks.report import COLUMNS, record, table, write
    from benchmarks.rows import Rows
    from benchmarks.sizes import size_named
    from benchmarks.workload import make_workload
    from phonofilm.generation.placement.devices import choose_placement

    machine = choose_placement(device, dtype)
    wanted = size_named(size or ("360p" if machine.device.type == "cuda" else "tiny"))
    field = chosen(only or (), machine.device)
    on_gpu = machine.device.type == "cuda"
    rounds, steps = rounds or (1 if on_gpu else 3), steps or (2 if on_gpu else 3)
    workload = make_workload(wanted, machine.device, machine.dtype)
    typer.echo(
        f"{wanted.what}: {workload.weight_bytes / 1e9:.3g} GB of weights, {workload.flops / 1e12:.3g} TFLOP a step, "
        f"{len(field)} contestants x {rounds} rounds x {steps} steps"
    )
    rows = Rows(output / f"bench-{wanted.name}.jsonl")
    limits, results = race(workload, field, rounds, steps, _say, rows)
    report = record(
        workload, limits, results, f"phonofilm bench --size {wanted.name} --rounds {rounds} --steps {steps}"
    )
    shown = Table(*COLUMNS)
    for row in table(results):
        shown.add_row(*row)
    Console().print(shown)
    fp8 = "" if limits.fp8_flops is None else f", in fp8 {limits.fp8_flops / 1e12:.3g} TFLOP/s"
    link = "" if limits.link is None else f", host to device {limits.link / 1e9:.3g} GB/s"
    typer.echo(f"measured here: matrix products {limits.flops / 1e12:.3g} TFLOP/s{fp8}{link}")
    if report["clips"]:
        typer.echo(f"computed from the steps of {report['clips']['by']}:")
        for what, seconds in report["clips"]["seconds"].items():
            typer.echo(f"  {seconds:.3g} s for a clip of {what}")
    for path in write(report, output):
        typer.echo(path)


def _say(name: str, done: int, rounds: int) -> None:
    typer.echo(f"round {done + 1} of {rounds}: {name}" if name else f"round {done} of {rounds} done", err=True)


def _find_benchmarks() -> None:
    """Make `benchmarks` importable. Raises InputError where the package was installed without the repository."""
    repository = Path(__file__).resolve().parents[3]
    if not (repository / "benchmarks" / "race.py").is_file():
        raise InputError(
            "the benchmarks are not part of the installed package; clone the repository "
            "(https://github.com/phonofilm/phonofilm), where they are in benchmarks/, and install from there: "
            "pip install -e ."
        )
    if str(repository) not in sys.path:
        sys.path.insert(0, str(repository))
