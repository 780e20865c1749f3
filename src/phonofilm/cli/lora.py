"""`phonofilm lora`: what is in a LoRA file, the same for another tool or in a checkpoint, what it does. docs/lora.md explains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phonofilm.cli import lora_report
from phonofilm.cli.shared_options import AsJson, Model, NewFolder

if TYPE_CHECKING:
    from phonofilm.lora.inspection import LoraReport

app = typer.Typer(
    help="LoRA files: look into one, convert it, merge it into a checkpoint, see what it learned.", no_args_is_help=True
)

app.command()(lora_report.report)
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Check names and shapes against this model; only its configuration is read."),
]
ExpertOption = Annotated[
    str | None, typer.Option(help="What a file is for that does not say it: high (default), low, audio or bridge.")
]
AlphaOption = Annotated[float | None, typer.Option(help="Use this alpha instead of the file's.")]


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A LoRA in any layout: a file, or a folder of them.")],
    model: ModelOption = None,
    expert: ExpertOption = None,
    alpha: AlphaOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a LoRA's layout, what of the model it covers, ranks, alphas, sizes, and what looks wrong."""
    from dataclasses import asdict

    from phonofilm.cli.terminal import json_text
    from phonofilm.lora.inspection import report_on
    from phonofilm.lora.target_layers import components_of
    from phonofilm.pipeline.few_step_loras import read_saying_steps

    components = None if model is None else components_of(model)
    report = report_on(read_saying_steps(file, components, expert=expert, alpha=alpha), file, components)
    if not as_json:
        return _print(file, report)
    typer.echo(json_text(asdict(report)))


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A LoRA in any layout: a file, or a folder of them.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="A .safetensors file for phonofilm, .pt for low-resource, else a new folder."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="phonofilm, original, low-resource, peft, diffusers, comfyui, kohya, diffsynth or videox-fun."
        ),
    ] = "phonofilm",
    model: ModelOption = None,
    expert: ExpertOption = None,
    alpha: AlphaOption = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file of ours that exists.")] = False,
) -> None:
    """Write a LoRA in another layout; what is written is read back and compared before it counts."""
    from phonofilm.lora.exporting import check_layout, write_lora
    from phonofilm.lora.target_layers import components_of
    from phonofilm.pipeline.few_step_loras import read_saying_steps

    check_layout(to, overwrite)
    lora = read_saying_steps(file, None if model is None else components_of(model), expert=expert, alpha=alpha)
    written = write_lora(lora, to, output, overwrite)
    parts = ", ".join(f"{len(layers)} layers of {component}" for component, layers in lora.adapters.items())
    typer.echo(f"{written}: {parts}, from the {lora.layout} layout")


@app.command()
def merge(
    loras: Annotated[list[str], typer.Argument(metavar="LORA[:STRENGTH]...", help="LoRAs as --lora takes them.")],
    output: NewFolder,
    model: Model = "nano",
    max_shard_size: Annotated[str, typer.Option(help="Largest weight file.")] = "5GB",
) -> None:
    """Write a checkpoint with LoRAs baked in; it needs no --lora and costs nothing per step."""
    from phonofilm.generation.merging import merge_loras

    typer.echo(merge_loras(model, loras, output, max_shard_size))


def _print(file: Path, report: LoraReport) -> None:
    from phonofilm.cli.terminal import cell, console, table
    from phonofilm.lora.inspection import COMPONENT_COLUMNS

    rows = [tuple(map(cell, part.row)) for part in report.components]
    console().print(table(COMPONENT_COLUMNS, rows, f"{file}: {report.layout} layout"))
    for key, value in report.metadata.items():
        console().print(cell(f"{key}: {value}"))
    for suspicion in report.suspicions:
        console().print(cell(f"to look at: {suspicion}", "yellow"))
