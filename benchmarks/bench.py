"""What `phonofilm bench` does: the race on this machine, its table, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import chosen
from benchmarks.race import race
from benchmarks.report import COLUMNS, record, table, write
from benchmarks.rows import Rows
from benchmarks.sizes import size_named
from benchmarks.workload import make_workload
from phonofilm.generation.placement.devices import choose_placement


def bench(
    output: Path,
    size: str | None,
    device: str,
    dtype: str,
    only: Sequence[str],
    rounds: int | None,
    steps: int | None,
) -> list[Path]:
    """Time every contestant and print what was measured; the files written. The arguments are the command's options."""
    machine = choose_placement(device, dtype)
    wanted = size_named(size or ("360p" if machine.device.type == "cuda" else "tiny"))
    field = chosen(only, machine.device)
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
    return write(report, output)


def _say(name: str, done: int, rounds: int) -> None:
    typer.echo(f"round {done + 1} of {rounds}: {name}" if name else f"round {done} of {rounds} done", err=True)
