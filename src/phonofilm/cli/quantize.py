"""`phonofilm quantize`: a checkpoint with fewer bits per weight, and how far its weights are from the original's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.shared_options import Model


def quantize(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    model: Model = "nano",
    to: Annotated[str, typer.Option(help="fp8, int8 or nf4.")] = "fp8",
    dtype: Annotated[
        str, typer.Option(help="What stays unquantised: bfloat16, float16 or float32; keep has it as it is.")
    ] = "keep",
    overwrite: Annotated[bool, typer.Option(help="Replace a checkpoint that exists.")] = False,
) -> None:
    """Quantise the linear layers of towers and bridge, and save the checkpoint for generate --model. Lossy."""
    from rich.table import Column

    from phonofilm.cli.terminal import console, table
    from phonofilm.pipeline.quantizing import quantize_checkpoint

    rows = []
    for name, one in quantize_checkpoint(model, to, dtype, output, overwrite).items():
        sizes = (f"{one.bytes_before / 1e6:,.1f}", f"{one.bytes_after / 1e6:,.1f}")
        rows.append((name, str(one.layers), *sizes, f"{one.error:.4f}", f"{one.worst_error:.4f} {one.worst_layer}"))
    columns = ("component", "layers", "MB before", "MB after", "error", "worst layer")
    folded = [Column(name, overflow="fold") for name in columns]
    console().print(table(folded, rows, f"{to}, relative to the original's weights"))
    typer.echo(output)
