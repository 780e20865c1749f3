"""`phonofilm quantize`: a checkpoint with fewer bits per weight, and how far its weights are from the original's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quantize(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Checkpoint folder, hub id, nano, 360p or 720p.")
    ] = "nano",
    to: Annotated[str, typer.Option(help="fp8, int8 or nf4.")] = "fp8",
    dtype: Annotated[
        str, typer.Option(help="What stays unquantised: bfloat16, float16 or float32; keep has it as it is.")
    ] = "keep",
    overwrite: Annotated[bool, typer.Option(help="Replace a checkpoint that exists.")] = False,
) -> None:
    """Quantise the linear layers of towers and bridge, and save the checkpoint for generate --model. Lossy."""
    import torch
    from rich.console import Console
    from rich.table import Column, Table

    from phonofilm.errors import InputError
    from phonofilm.models.hub import resolve_model
    from phonofilm.models.quantized import check_quantization
    from phonofilm.models.saving import require_replaceable
    from phonofilm.pipeline.mova import MovaPipeline
    from phonofilm.pipeline.quantizing import quantize_pipeline

    check_quantization(to)
    dtypes = {"keep": None, "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if dtype not in dtypes:
        raise InputError(f"dtype {dtype!r} is unknown; use one of {', '.join(dtypes)}")
    require_replaceable(output.absolute(), overwrite)
    pipe = MovaPipeline.from_pretrained(resolve_model(model), torch_dtype=dtypes[dtype])
    columns = ("component", "layers", "MB before", "MB after", "error", "worst layer")
    table = Table(*(Column(one, overflow="fold") for one in columns), title=f"{to}, relative to the original's weights")
    for name, report in quantize_pipeline(pipe, to).items():
        table.add_row(
            name,
            str(report.layers),
            f"{report.bytes_before / 1e6:,.1f}",
            f"{report.bytes_after / 1e6:,.1f}",
            f"{report.error:.4f}",
            f"{report.worst_error:.4f} {report.worst_layer}",
        )
    pipe.save_pretrained(output, overwrite=overwrite)
    Console().print(table)
    typer.echo(output)
