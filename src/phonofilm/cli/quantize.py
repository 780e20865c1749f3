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
    from phonofilm.cli.terminal import console, table
    from phonofilm.models.quantized import QUANTIZED_COLUMNS
    from phonofilm.pipeline.quantizing import quantize_checkpoint

    rows = [(name, *one.row) for name, one in quantize_checkpoint(model, to, dtype, output, overwrite).items()]
    console().print(table(("component", *QUANTIZED_COLUMNS), rows, f"{to}, relative to the original's weights"))
    typer.echo(output)
