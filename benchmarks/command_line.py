"""The options of `phonofilm bench`, which the command line finds here where the repository is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
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
    from benchmarks.bench import bench as run_bench

    for path in run_bench(output, size, device, dtype, only or (), rounds, steps):
        typer.echo(path)
